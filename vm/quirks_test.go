//go:build linux

package vm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"maclef/internal/transport/frame"
)

// Quirks are what is wrong with a chip, or with the firmware before it.
type quirks struct {
	delay     time.Duration // every command takes that much longer once a key was loaded
	unstarted bool          // the firmware does not start the chip when the machine wakes up
}

// A quirkyChip stands between QEMU and swtpm. QEMU hands one end of a pair of
// sockets over the control channel for its commands; swtpm gets an end of
// another pair, and commands and responses are carried from one to the other.
type quirkyChip struct {
	listener *net.UnixListener
	quirks   quirks
	begun    atomic.Bool // a key was loaded
}

// loads are the commands that load a key: TPM_ORD_LoadKey2, TPM Main Part 2,
// section 17 (Ordinals), and TPM2_CC_Load, TPM 2.0 Library Part 2, section 6.5.2
// (TPM_CC).
var loads = map[uint32]bool{65: true, 0x157: true}

// startups are what firmware says when it wakes up, and the response that says only
// that it succeeded: TPM_Startup(TPM_ST_STATE), TPM Main Part 3, section 3.2, and
// TPM2_Startup(TPM_SU_STATE), TPM 2.0 Library Part 3, section 9.3.
var startups = map[string][]byte{
	"\x00\xc1\x00\x00\x00\x0c\x00\x00\x00\x99\x00\x02": {0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0},
	"\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x01": {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0},
}

// notStarted are the responses of a chip that nobody has started:
// TPM_INVALID_POSTINIT and TPM_RC_INITIALIZE.
var notStarted = map[uint32]bool{38: true, 0x100: true}

func newQuirkyChip(path, swtpm string, wrong quirks) (*quirkyChip, error) {
	os.Remove(path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, err
	}
	c := &quirkyChip{listener: listener, quirks: wrong}
	go c.serve(swtpm)
	return c, nil
}

func (c *quirkyChip) close() { c.listener.Close() }

func (c *quirkyChip) serve(swtpm string) {
	qemu, err := c.listener.AcceptUnix()
	if err != nil {
		return
	}
	defer qemu.Close()
	chip, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: swtpm})
	if err != nil {
		fmt.Fprintln(os.Stderr, "quirky chip:", err)
		return
	}
	defer chip.Close()
	go io.Copy(qemu, chip)
	if err := c.control(qemu, chip); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "quirky chip:", err)
	}
}

// control carries control messages to the chip, and changes the socket that
// comes with one of them.
func (c *quirkyChip) control(qemu, chip *net.UnixConn) error {
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
			if rights, err = c.interpose(oob[:oobn]); err != nil {
				return err
			}
		}
		if _, _, err := chip.WriteMsgUnix(buf[:n], rights, nil); err != nil {
			return err
		}
	}
}

// interpose takes QEMU's socket and returns the message with ours.
func (c *quirkyChip) interpose(oob []byte) ([]byte, error) {
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
	go c.carry(os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(pair[0]), "swtpm"))
	return syscall.UnixRights(pair[1]), nil
}

func (c *quirkyChip) carry(qemu, chip *os.File) {
	defer qemu.Close()
	defer chip.Close()
	noticed := false // by others than the firmware, that the chip is not started
	for {
		command, err := frame.Read(qemu)
		if err != nil {
			return
		}
		if loads[binary.BigEndian.Uint32(command[6:])] {
			c.begun.Store(true)
		}
		if c.begun.Load() {
			time.Sleep(c.quirks.delay)
		}
		response, startup := startups[string(command)]
		if !startup || noticed || !c.quirks.unstarted {
			if _, err := chip.Write(command); err != nil {
				return
			}
			if response, err = frame.Read(chip); err != nil {
				return
			}
			noticed = notStarted[binary.BigEndian.Uint32(response[6:])]
		}
		if _, err := qemu.Write(response); err != nil {
			return
		}
	}
}
