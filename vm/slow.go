//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A slowChip stands between QEMU and swtpm. QEMU hands one end of a pair of
// sockets over the control channel for its commands; swtpm gets an end of
// another pair, and commands and responses are carried from one to the other.
type slowChip struct {
	listener *net.UnixListener
	delay    time.Duration
	begun    atomic.Bool // a key was loaded
}

// ordLoadKey2 is TPM_ORD_LoadKey2. TPM Main Part 2, section 17 (Ordinals).
const ordLoadKey2 = 65

func newSlowChip(path, swtpm string, delay time.Duration) (*slowChip, error) {
	os.Remove(path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, err
	}
	s := &slowChip{listener: listener, delay: delay}
	go s.serve(swtpm)
	return s, nil
}

func (s *slowChip) close() { s.listener.Close() }

func (s *slowChip) serve(swtpm string) {
	qemu, err := s.listener.AcceptUnix()
	if err != nil {
		return
	}
	defer qemu.Close()
	chip, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: swtpm})
	if err != nil {
		fmt.Fprintln(os.Stderr, "slow chip:", err)
		return
	}
	defer chip.Close()
	go io.Copy(qemu, chip)
	if err := s.control(qemu, chip); err != nil && err != io.EOF {
		fmt.Fprintln(os.Stderr, "slow chip:", err)
	}
}

// control carries control messages to the chip, and changes the socket that
// comes with one of them.
func (s *slowChip) control(qemu, chip *net.UnixConn) error {
	buf, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, oobn, _, _, err := qemu.ReadMsgUnix(buf, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		var rights []byte
		if oobn > 0 {
			if rights, err = s.interpose(oob[:oobn]); err != nil {
				return err
			}
		}
		if _, _, err := chip.WriteMsgUnix(buf[:n], rights, nil); err != nil {
			return err
		}
	}
}

// interpose takes QEMU's socket and returns the message with ours.
func (s *slowChip) interpose(oob []byte) ([]byte, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	go s.carry(os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(pair[0]), "swtpm"))
	return syscall.UnixRights(pair[1]), nil
}

func (s *slowChip) carry(qemu, chip *os.File) {
	defer qemu.Close()
	defer chip.Close()
	for {
		command, err := readMessage(qemu)
		if err != nil {
			return
		}
		if binary.BigEndian.Uint32(command[6:]) == ordLoadKey2 {
			s.begun.Store(true)
		}
		if s.begun.Load() {
			time.Sleep(s.delay)
		}
		if _, err := chip.Write(command); err != nil {
			return
		}
		response, err := readMessage(chip)
		if err != nil {
			return
		}
		if _, err := qemu.Write(response); err != nil {
			return
		}
	}
}

// readMessage reads a TPM command or response: tag(2) size(4) code(4) ….
func readMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, 10)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > 8192 {
		return nil, fmt.Errorf("a TPM message of %d bytes", size)
	}
	message := append(header, make([]byte, size-10)...)
	_, err := io.ReadFull(r, message[10:])
	return message, err
}
