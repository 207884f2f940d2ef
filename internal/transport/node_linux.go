package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"maclef/internal/sysfs"
	"maclef/internal/transport/frame"
)

// nodeLink is a character device of the kernel's TPM driver: one write for a
// command, one read for its response. It is open in turns only, because the
// kernel gives it to one program at a time. The descriptor stays in blocking
// mode, in which the driver carries the command out within the write.
type nodeLink struct {
	path   string
	waits  waits
	doing  string
	known  bool // it was open before
	noWait atomic.Bool
	fd     int       // -1 where a command that was given up has it still
	ended  time.Time // when it was closed last
}

// openPause is how often a device that somebody has open is tried. The kernel
// has no queue for it.
const openPause = 500 * time.Microsecond

// reopenDelay is for how long a program does not open a device that it has just closed:
// others, who try now and then, get in meanwhile.
const reopenDelay = 2 * openPause

func (n *nodeLink) begin(ctx context.Context) (err error) {
	if rest := reopenDelay - time.Since(n.ended); rest > 0 {
		time.Sleep(rest)
	}
	for begin := time.Now(); ; {
		n.fd, err = retry(func() (int, error) {
			return syscall.Open(n.path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
		})
		if err == nil {
			n.known, n.doing = true, "use"
			return nil
		}
		absent := n.known && (err == syscall.ENOENT || err == syscall.ENODEV || err == syscall.ENXIO)
		if err != syscall.EBUSY && (!absent || n.noWait.Load() || time.Since(begin) > n.waits.grace) {
			return n.explain(err)
		}
		if waiting := sleep(ctx, openPause); waiting != nil {
			return n.explain(fmt.Errorf("%w, %w", err, waited(waiting, n.waits.turn)))
		}
	}
}

func (n *nodeLink) explain(err error) error {
	info, _ := os.Stat(n.path) // an error: there is none
	return nodeError(n.doing, n.path, info, err)
}

func (n *nodeLink) stopWaiting() { n.noWait.Store(true) }

func (n *nodeLink) end() {
	if n.fd >= 0 {
		syscall.Close(n.fd)
	}
	n.ended = time.Now()
}

func (n *nodeLink) close() error { return nil }

// exchange leaves a command that the kernel does not return from to itself, and its
// descriptor with it.
func (n *nodeLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	fd, own := n.fd, bytes.Clone(cmd)
	var rsp []byte
	done := make(chan error, 1)
	go func() {
		var err error
		rsp, err = carry(fd, own)
		clear(own)
		done <- err
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return rsp, err
	case <-timer.C:
		n.fd = -1
		go func() {
			<-done
			syscall.Close(fd)
		}()
		return nil, fmt.Errorf("no answer within %v: %w", limit, os.ErrDeadlineExceeded)
	}
}

func carry(fd int, cmd []byte) ([]byte, error) {
	wrote, err := retry(func() (int, error) { return syscall.Write(fd, cmd) })
	if err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	if wrote != len(cmd) {
		return nil, fmt.Errorf("send command: the driver took %d of %d bytes", wrote, len(cmd))
	}
	rsp := make([]byte, frame.MaxSize)
	got, err := retry(func() (int, error) { return syscall.Read(fd, rsp) })
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	return rsp[:got], nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// openNode opens the device of a TPM. It opens nothing that is not one: opening
// alone can have effects, on a watchdog or a tape.
func (o opener) openNode(doing, name string) (*Device, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nodeError(doing, name, nil, err)
	}
	if err := checkNode(doing, name, info); err != nil {
		return nil, err
	}
	node := &nodeLink{path: name, waits: o.waits, doing: doing}
	if isManager(name, info) {
		return newDevice(name, &managedLink{node}, o.waits), nil
	}
	return newDevice(name, node, o.waits), nil
}

// checkNode tells a TPM's device from everything else with a path. Without
// /sys it believes every character device.
func checkNode(doing, name string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return failure(doing, name, ErrNoTPM, "this is a directory, not the device of a TPM; for a software TPM in it give emulator:%s", name)
	case mode&fs.ModeSocket != 0:
		return failure(doing, name, ErrNoTPM, "this is a socket: give unix:%s", name)
	case mode&fs.ModeCharDevice == 0:
		return failure(doing, name, ErrNoTPM, "this is %s, not the device of a TPM; give %s", sysfs.FileKind(mode), nameForms)
	}
	switch class := sysfs.DeviceClass(info); class {
	case "", "tpm", "tpmrm", "cuse":
		return nil
	default:
		return failure(doing, name, ErrNoTPM, "this is a device of the class %q, not a TPM; give %s", class, nameForms)
	}
}

// nodeError explains why a device cannot be opened; info is nil when there is
// none.
func nodeError(doing, name string, info fs.FileInfo, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return failure(doing, name, ErrPermission, "%s: %w", whoMay(info), err)
	case errors.Is(err, syscall.EBUSY):
		return failure(doing, name, ErrBusy, "%s: %w", whoHolds(name), err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return failure(doing, name, ErrNoTPM, "there is no such device: switch the TPM on in the firmware's settings and see "+
			"that its driver is loaded (dmesg | grep -i tpm): %w", err)
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return failure(doing, name, ErrNoTPM, "the device has no TPM behind it: see that its driver is loaded "+
			"(dmesg | grep -i tpm): %w", err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// whoMay says who may open a device, and how to become one of them.
func whoMay(info fs.FileInfo) string {
	const root = "run this as root"
	if info == nil {
		return root
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o060 != 0o060 || stat.Gid == 0 {
		return fmt.Sprintf("its mode is %04o: %s", info.Mode().Perm(), root)
	}
	group := strconv.Itoa(int(stat.Gid))
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("it belongs to the group %s (mode %04o): %s, or add yourself to the group with "+
		"\"sudo usermod -aG %s $USER\" and log in again", group, info.Mode().Perm(), root, group)
}

// whoHolds says which process has a device open, as far as /proc tells this
// user, and how to get rid of it.
func whoHolds(name string) string { return holderText(name, sysfs.Kernel{}.Holders(name)) }

func holderText(name string, holders []sysfs.Process) string {
	if len(holders) == 0 {
		return "another program has it open: find it with \"sudo fuser -v " + name + "\", stop it and try again"
	}
	pid, program := holders[0].PID, holders[0].Name
	switch program {
	case "tcsd":
		return fmt.Sprintf("tcsd (process %d) has it open: stop it with \"systemctl stop trousers\" and try again", pid)
	case "tpm2-abrmd":
		return fmt.Sprintf("tpm2-abrmd (process %d) has it open: use the kernel's resource manager (/dev/tpmrm0), "+
			"or stop it with \"systemctl stop tpm2-abrmd\" and try again", pid)
	}
	return fmt.Sprintf("%s (process %d) has it open: stop it or wait, and try again", program, pid)
}
