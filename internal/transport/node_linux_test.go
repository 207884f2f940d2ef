package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/sysfs"
	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

// Nothing but a TPM's device is opened.
func TestNodeIsNoTPM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, make := range map[string]func(string) error{
		"file":   func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"pipe":   func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"socket": func(p string) error { _, err := net.Listen("unix", p); return err },
	} {
		if err := make(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	for path, words := range map[string]string{
		dir:              "emulator:" + dir,
		dir + "/file":    "a file",
		dir + "/pipe":    "a pipe",
		dir + "/socket":  "unix:" + dir,
		dir + "/none":    "no such device",
		dir + "/file/in": "not a directory",
		"/dev/null":      `"mem"`,
		"/dev/tty":       `"tty"`,
		"/dev/ptmx":      `"tty"`,
		"./relative":     "no such device",
	} {
		_, err := openNow(path)
		wantError(t, err, ErrNoTPM, strings.TrimPrefix(path, "."), words)
	}
}

// Without /sys every character device may be one, and what it answers decides.
func TestNodeAnswersLikeNoTPM(t *testing.T) {
	t.Parallel()
	d := newDevice("/dev/zero", &nodeLink{path: "/dev/zero", timeouts: defaultTimeouts()}, defaultTimeouts())
	defer d.Close()
	wantError(t, alive(d), ErrGone, "/dev/zero")
	wantError(t, alive(d), ErrGone)
}

// An openNode has descriptors for its turns already.
type openNode struct {
	nodeLink
	fds []int
}

func (n *openNode) connect(context.Context) error {
	n.fd, n.fds = n.fds[0], n.fds[1:]
	return nil
}

// packets are two ends of a connection of packets; the first one stands for a device,
// the second one for its driver: one write, one read.
func packets(t *testing.T) (device, driver int) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(pair[1]) })
	return pair[0], pair[1]
}

// drive reads a command as the driver, and gives an answer.
func drive(t *testing.T, driver int, answer string) {
	t.Helper()
	buf := make([]byte, frame.MaxSize)
	if n, err := syscall.Read(driver, buf); err != nil || n != len(probeCommand) {
		t.Error("the driver got", n, err)
		return
	}
	if _, err := syscall.Write(driver, []byte(answer)); err != nil {
		t.Error(err)
	}
}

func TestNodeExchange(t *testing.T) {
	t.Parallel()
	device, driver := packets(t)
	d := newDevice("/dev/tpm0", &openNode{fds: []int{device}}, defaultTimeouts())
	mustAcquire(t, d)
	go func() {
		drive(t, driver, good)
		drive(t, driver, good[:8])
	}()
	if rsp, err := d.Send(probeCommand); err != nil || string(rsp) != good {
		t.Fatal(rsp, err)
	}
	_, err := d.Send(probeCommand)
	wantError(t, err, ErrGone, "8 bytes")
	wantBroken(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A bare device is open in turns only, and between two there is time for others. The
// terminal that stands for it serves anybody, too.
func TestNodeIsOpenInTurns(t *testing.T) {
	m := startManager(t, filepath.Join(t.TempDir(), "tpm0"), tpmtest.Start(t, tpmtest.Fresh))
	d := newDevice(m.path, &nodeLink{path: m.path, timeouts: defaultTimeouts()}, defaultTimeouts())
	defer d.Close()
	var released time.Time
	for i := range uint64(3) {
		release := mustAcquire(t, d)
		if waited := time.Since(released); waited < reopenDelay {
			t.Errorf("turn %d: others had %v", i, waited)
		}
		if err := errors.Join(alive(d), alive(d)); err != nil || m.files(t) != 1 || d.Opened() != i+1 {
			t.Errorf("turn %d: %v; open %d times, opened %d times", i, err, m.files(t), d.Opened())
		}
		released = time.Now()
		release()
		if n := m.files(t); n != 0 {
			t.Errorf("turn %d: open %d times after it", i, n)
		}
	}
}

// A command that the driver does not answer is given up, and keeps its descriptor until
// the driver does; meanwhile there are other turns.
func TestNodeNeverAnswers(t *testing.T) {
	quick := defaultTimeouts()
	quick.quick = 50 * time.Millisecond
	for _, row := range []struct {
		name     string
		timeouts timeouts
		in       time.Duration // the deadline
		words    string
	}{
		{"its limit", quick, time.Hour, "no answer within 50ms"},
		{"its deadline", defaultTimeouts(), 50 * time.Millisecond, "no answer within 100ms"}, // minTimeout
	} {
		t.Run(row.name, func(t *testing.T) {
			device, stuck := packets(t)
			next, driver := packets(t)
			d := newDevice("/dev/tpm0", &openNode{fds: []int{device, next}}, row.timeouts)
			release := mustAcquire(t, d)
			d.SetDeadline(time.Now().Add(row.in))
			giveUp(t, d, row.words)
			release()
			d.SetDeadline(time.Time{})
			go drive(t, driver, good)
			if rsp, err := d.Send(probeCommand); err != nil || string(rsp) != good {
				t.Error("in the next turn:", rsp, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			drive(t, stuck, good) // fails where the descriptor was closed
			await(t, "the descriptor to be closed", func() bool {
				n, _, err := syscall.Recvfrom(stuck, make([]byte, 1), syscall.MSG_DONTWAIT)
				return n == 0 && err == nil
			})
		})
	}
}

// giveUp sends a command that gets no answer.
func giveUp(t *testing.T, d *Device, words string) {
	t.Helper()
	cmd := bytes.Clone(probeCommand)
	begin := time.Now()
	_, err := d.Send(cmd)
	wantError(t, err, ErrGone, d.Name(), words)
	if took := time.Since(begin); took > 5*time.Second || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrNotSent) {
		t.Error(took, err)
	}
	clear(cmd) // it is the caller's
	wantBroken(t, d)
}

// fakeInfo is a device's group and mode.
type fakeInfo struct {
	fs.FileInfo
	mode fs.FileMode
	stat syscall.Stat_t
}

func (f *fakeInfo) Mode() fs.FileMode { return f.mode }
func (f *fakeInfo) Sys() any          { return &f.stat }

func TestNodeErrors(t *testing.T) {
	t.Parallel()
	tty := &fakeInfo{mode: 0o660 | fs.ModeCharDevice, stat: syscall.Stat_t{Gid: 5}}
	closed := &fakeInfo{mode: 0o600 | fs.ModeCharDevice, stat: syscall.Stat_t{Gid: 5}}
	nameless := &fakeInfo{mode: 0o660 | fs.ModeCharDevice, stat: syscall.Stat_t{Gid: 4242}}
	for _, row := range []struct {
		err   syscall.Errno
		info  fs.FileInfo
		kind  error
		words string
	}{
		{syscall.ENOENT, nil, ErrNoTPM, "firmware"},
		{syscall.ENXIO, tty, ErrNoTPM, "no TPM behind it"},
		{syscall.ENODEV, tty, ErrNoTPM, "driver"},
		{syscall.EACCES, tty, ErrPermission, "group tty (mode 0660): run this as root, or add yourself to the group with \"sudo usermod -aG tty $USER\""},
		{syscall.EACCES, nameless, ErrPermission, "group 4242"},
		{syscall.EPERM, closed, ErrPermission, "mode is 0600: run this as root"},
		{syscall.EACCES, nil, ErrPermission, "run this as root"},
		{syscall.EBUSY, tty, ErrBusy, "fuser -v /dev/tpm-none"},
	} {
		err := nodeError("open TPM", "/dev/tpm-none", row.info, &os.PathError{Op: "open", Path: "/dev/tpm-none", Err: row.err})
		wantError(t, err, row.kind, "open TPM /dev/tpm-none: ", row.words)
		if !errors.Is(err, row.err) {
			t.Errorf("%v lost its cause", err)
		}
	}
	if err := nodeError("open TPM", "/dev/tpm0", tty, syscall.EIO); kind(err) != "other" {
		t.Error(err)
	}
}

func TestNodeHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tpm0")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), os.Getpid())
	if got := holdersOf(link); !strings.Contains(got, self) {
		t.Error(got)
	}
	f.Close()
	if got := holdersOf(path); !strings.Contains(got, "fuser") {
		t.Error(got)
	}
	k := sysfs.Kernel{Root: t.TempDir()}
	proc := k.Root + "/proc/77"
	if err := os.MkdirAll(proc+"/fd", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(path, proc+"/fd/3"), os.Symlink(path, proc+"/fd/4"), os.WriteFile(proc+"/comm", []byte("tcsd\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	got := k.Holders(path)
	if len(got) != 1 || got[0] != (sysfs.Process{PID: 77, Name: "tcsd"}) || !strings.Contains(holderText(path, got), "systemctl stop trousers") {
		t.Error(got)
	}
	if err := os.WriteFile(proc+"/comm", []byte("\x1b[2J\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := holderText(path, k.Holders(path)); strings.ContainsRune(got, '\x1b') {
		t.Errorf("%q", got)
	}
	if got := holderText(path, []sysfs.Process{{PID: 78, Name: "tpm2-abrmd"}}); !strings.Contains(got, "/dev/tpmrm0") {
		t.Error(got)
	}
}

// A node without a driver, and without permission.
func TestNodePermission(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		tpmtest.Cannot(t, "only root can make a device; TestNodeErrors has the messages for all")
	}
	path := filepath.Join(publicDir(t), "tpm0")
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 10<<8|224); err != nil {
		t.Fatal(err)
	}
	p := startUser(t, path, asNobody)
	p.want("open permission open TPM "+path+": no permission: its mode is 0600: run this as root", p.answer())
	if _, err := os.Stat("/sys/dev/char/10:224"); err != nil {
		_, err := openNow(path)
		wantError(t, err, ErrNoTPM, "driver")
	}
}

func TestOpenNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"foo", "tpm0", "http:", "emulator20", "emulator12:/x", "emulator:", "emulator2:", "simulator", "UNIX:/x", " ", ":"} {
		if _, err := openNow(name); err == nil || !strings.Contains(err.Error(), nameForms) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openNow("http://localhost/tpm"); err == nil || !strings.Contains(err.Error(), nameForms) {
		t.Error(err)
	}
}

func TestOpenUnnamed(t *testing.T) {
	o := opener{timeouts: defaultTimeouts(), devices: t.TempDir()}
	t.Setenv(EnvName, "")
	t.Setenv("HOME", t.TempDir()) // where an emulator would go
	_, err := tryOpen(o, "")
	wantError(t, err, ErrNoTPM, "firmware", "emulator is for trying out")
	for _, node := range []string{"tpm10", "tpm1", "tpm0", "tpmrm0"} { // better and better
		path := filepath.Join(o.devices, node)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = tryOpen(o, "")
		wantError(t, err, ErrNoTPM, "open TPM "+path+":")
	}
	t.Setenv(EnvName, "/dev/null")
	_, err = tryOpen(o, "")
	wantError(t, err, ErrNoTPM, "open TPM ($TPMKEY_TPM) /dev/null: ")
	t.Setenv(EnvName, "nonsense")
	if _, err = tryOpen(o, ""); err == nil || !strings.Contains(err.Error(), EnvName) {
		t.Error(err)
	}
}

// Only a machine without any device has none: one that is unusable says why itself.
func TestNoDevice(t *testing.T) {
	t.Setenv(EnvName, "")
	o := opener{timeouts: defaultTimeouts(), devices: t.TempDir()}
	if _, err := tryOpen(o, ""); !errors.Is(err, ErrNoDevice) || !errors.Is(err, ErrNoTPM) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(o.devices, "tpm0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(o, ""); errors.Is(err, ErrNoDevice) || !errors.Is(err, ErrNoTPM) {
		t.Error(err)
	}
}
