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

// quirks are defects of a chip or of the firmware.
type quirks struct {
	delay     time.Duration // additional time of each command after a key was loaded
	unstarted bool          // the firmware does not start the chip when the machine wakes up
}

// A chipProxy stands between QEMU and swtpm. QEMU sends one end of a pair of sockets, for
// commands, over the control channel. The proxy sends swtpm an end of another pair, and
// forwards commands and responses between the two pairs.
type chipProxy struct {
	listener  *net.UnixListener
	quirks    quirks
	keyLoaded atomic.Bool // a key was loaded
}

// loads are the commands that load a key: TPM_LoadKey2, TPM Main Part 2, section 17
// (Ordinals), and TPM2_Load, TPM 2.0 Library Part 2, section 6.5.2 (TPM_CC).
var loads = map[uint32]bool{65: true, 0x157: true}

// startups are the commands with which firmware starts a TPM after sleep, and their
// successful responses: TPM_Startup(TPM_ST_STATE), TPM Main Part 3, section 3.2
// (TPM_Startup), and TPM2_Startup(TPM_SU_STATE), TPM 2.0 Library Part 3, section 9.3
// (TPM2_Startup).
var startups = map[string][]byte{
	"\x00\xc1\x00\x00\x00\x0c\x00\x00\x00\x99\x00\x02": {0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0},
	"\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x01": {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0},
}

// notStarted are the result codes of a chip that was not started: TPM_INVALID_POSTINIT and
// TPM_RC_INITIALIZE.
var notStarted = map[uint32]bool{38: true, 0x100: true}

func newChipProxy(path, swtpm string, wrong quirks) (*chipProxy, error) {
	os.Remove(path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, err
	}
	c := &chipProxy{listener: listener, quirks: wrong}
	go c.serve(swtpm)
	return c, nil
}

func (c *chipProxy) close() { c.listener.Close() }

func (c *chipProxy) serve(swtpm string) {
	qemu, err := c.listener.AcceptUnix()
	if err != nil {
		return
	}
	defer qemu.Close()
	chip, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: swtpm})
	if err != nil {
		fmt.Fprintln(os.Stderr, "chip proxy:", err)
		return
	}
	defer chip.Close()
	go io.Copy(qemu, chip)
	if err := c.control(qemu, chip); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "chip proxy:", err)
	}
}

// control forwards control messages to the chip. It replaces the socket that comes with one
// of them.
func (c *chipProxy) control(qemu, chip *net.UnixConn) error {
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

// interpose takes QEMU's socket and returns a message with a socket of the proxy.
func (c *chipProxy) interpose(oob []byte) ([]byte, error) {
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
	go c.forward(os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(pair[0]), "swtpm"))
	return syscall.UnixRights(pair[1]), nil
}

func (c *chipProxy) forward(qemu, chip *os.File) {
	defer qemu.Close()
	defer chip.Close()
	noticed := false // the kernel got the result that the chip is not started
	for {
		command, err := frame.Read(qemu)
		if err != nil {
			return
		}
		if loads[binary.BigEndian.Uint32(command[6:])] {
			c.keyLoaded.Store(true)
		}
		if c.keyLoaded.Load() {
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
