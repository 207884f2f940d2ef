package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

// A fakeManager is a terminal that stands for the kernel's resource manager: a
// character device that can be open often, and writes and reads whole messages. Behind
// it is a software TPM.
type fakeManager struct {
	path    string
	master  *os.File
	running atomic.Bool
}

// startManager makes a device under path, in place of one that was there.
func startManager(t *testing.T, path string, sw *tpmtest.SWTPM) *fakeManager {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd()) // and so reads of it block
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetTermios(fd, unix.TCSETS, &unix.Termios{Cflag: unix.CS8 | unix.CREAD, Cc: [19]uint8{unix.VMIN: 1}})
	}
	os.Remove(path)
	if err := errors.Join(err, os.Symlink(fmt.Sprintf("/dev/pts/%d", number), path)); err != nil {
		t.Fatal(err)
	}
	m := &fakeManager{path: path, master: master}
	m.running.Store(true)
	conn, err := net.Dial("unix", strings.TrimPrefix(sw.Socket, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go m.serve(conn)
	return m
}

func (m *fakeManager) serve(tpm net.Conn) {
	buf := make([]byte, frame.MaxSize)
	for m.running.Load() {
		n, err := m.master.Read(buf)
		if errors.Is(err, syscall.EIO) { // nobody has it open
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		if _, err := tpm.Write(buf[:n]); err != nil {
			return
		}
		rsp, err := frame.ReadResponse(tpm)
		if err != nil {
			return
		}
		m.master.Write(rsp)
	}
}

// fail is a driver that goes away: who has it open gets EIO.
func (m *fakeManager) fail() {
	m.running.Store(false)
	m.master.Close()
}

func (m *fakeManager) open(t *testing.T) *Device {
	t.Helper()
	d := newDevice(m.path, &managedLink{&nodeLink{path: m.path, timeouts: defaultTimeouts()}}, defaultTimeouts())
	t.Cleanup(func() { d.Close() })
	return d
}

// files counts how often this process has the device open.
func (m *fakeManager) files(t *testing.T) (n int) {
	t.Helper()
	real, err := filepath.EvalSymlinks(m.path)
	if err != nil {
		t.Fatal(err)
	}
	open, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range open {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && target == real {
			n++
		}
	}
	return n
}

// The device stays open from the first turn until Close, and others use it meanwhile.
func TestManagerStaysOpen(t *testing.T) {
	t.Parallel()
	m := startManager(t, filepath.Join(t.TempDir(), "tpmrm0"), tpmtest.Start(t, tpmtest.TPM20))
	d, other := m.open(t), m.open(t)
	if n := m.files(t); n != 0 || !d.Managed() {
		t.Fatal(n, d.Managed())
	}
	h := sealed(t, d)
	for range 3 {
		if err := unseal(d, h, "motdepasse"); err != nil {
			t.Error(err)
		}
	}
	if n := m.files(t); n != 1 {
		t.Errorf("it is open %d times", n)
	}
	release := mustAcquire(t, d)
	if property20(t, other, tpm2.TPMPTManufacturer) == 0 || m.files(t) != 2 {
		t.Error("others have to wait")
	}
	release()
	if n := d.Opened(); n != 1 {
		t.Errorf("it was opened %d times", n)
	}
	if err := errors.Join(d.Close(), d.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	if n := m.files(t); n != 0 {
		t.Errorf("after Close it is open %d times", n)
	}
}

// A file that failed is opened anew in the next turn; what was loaded over it is lost.
func TestManagerFails(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.TPM20)
	path := filepath.Join(t.TempDir(), "tpmrm0")
	m := startManager(t, path, sw)
	d := m.open(t)
	property20(t, d, tpm2.TPMPTManufacturer)
	release := mustAcquire(t, d)
	m.fail()
	_, err := d.Send(probeCommand)
	wantError(t, err, ErrGone, path)
	if errors.Is(err, ErrNotSent) {
		t.Error("nobody knows that:", err)
	}
	sw.Restart()
	startManager(t, path, sw)
	wantBroken(t, d)
	release()
	if property20(t, d, tpm2.TPMPTManufacturer) == 0 || d.Opened() != 2 {
		t.Error(d.Opened())
	}
}

func TestManagerNoRoom(t *testing.T) {
	t.Parallel()
	context := func(handle byte) []byte {
		return append([]byte{0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x61, 17: 0, 18: handle}, 0)
	}
	for _, row := range []struct {
		cmd  []byte
		code byte
	}{
		{[]byte{0x80, 2, 0, 0, 0, 10, 0, 0, 1, 0x57}, 0x02},
		{[]byte{0x80, 2, 0, 0, 0, 10, 0, 0, 1, 0x31}, 0x02},
		{[]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x76}, 0x03},
		{[]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x61}, 0x02},
		{context(0x80), 0x02}, {context(0x02), 0x03}, {context(0x03), 0x03},
	} {
		rsp := outOfMemory(row.cmd)
		if err := frame.CheckResponse(rsp); err != nil || rsp[8] != 9 || rsp[9] != row.code {
			t.Errorf("%x: %x, %v", row.cmd, rsp, err)
		}
	}
}

func TestIsManager(t *testing.T) {
	t.Parallel()
	unknown := &fakeInfo{stat: syscall.Stat_t{Rdev: unix.Mkdev(4000, 70000)}}
	for name, want := range map[string]bool{
		"/dev/tpmrm0": true, "/dev/tpmrm12": true, "/dev/tpm0": false, "/dev/tpmrm": false, "/dev/tpmrm0x": false, "/dev/mytpmrm0": false,
	} {
		if got := isManager(name, unknown); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	null, err := os.Stat(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if isManager("/dev/tpmrm0", null) {
		t.Error("the kernel says that it is something else")
	}
}

func TestLimits(t *testing.T) {
	w := defaultTimeouts()
	for want, commands := range map[time.Duration][][2]uint32{
		w.slow:    {{0xC1, 0x50}, {0xC2, 0x0d}, {0xC2, 0x1f}, {0xC3, 0x79}, {0x8002, 0x131}, {0x8002, 0x153}, {0x8002, 0x191}, {0x8001, 0x143}},
		w.command: {{0xC2, 0x3c}, {0xC2, 0x41}, {0xC1, 0x153}, {0x8002, 0x15d}, {0x8002, 0x159}, {0x8002, 0x157}, {0x8001, 0x176}, {0x8001, 0x1f}, {0x8001, 0x65}, {0x8001, 0x20000001}},
		w.quick:   {{0xC1, 0x65}, {0xC1, 0xba}, {0xC1, 0xb9}, {0x8001, 0x17a}, {0x8001, 0x165}, {0x8001, 0x173}, {0x8001, 0x161}, {0x8001, 0x162}},
	} {
		for _, c := range commands {
			cmd := []byte{byte(c[0] >> 8), byte(c[0]), 0, 0, 0, 10, byte(c[1] >> 24), byte(c[1] >> 16), byte(c[1] >> 8), byte(c[1])}
			if got := w.forCommand(cmd); got != want {
				t.Errorf("%x: %v, want %v", cmd, got, want)
			}
		}
	}
}
