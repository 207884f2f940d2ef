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

// A nodeLink is a character device of the kernel's TPM driver: one write sends a command,
// one read gets its response. It is open only during a turn, because the kernel lets one
// program open it. The descriptor is blocking: the driver then carries out the command
// within write.
type nodeLink struct {
	path     string
	timeouts timeouts
	doing    string
	opened   bool // the device was opened before
	noWait   atomic.Bool
	fd       int       // -1 while a command that timed out still uses it
	closedAt time.Time // when the device was last closed
}

// openPause is the time between two attempts to open a device that another program has
// open. The kernel has no queue for it.
const openPause = 500 * time.Microsecond

// reopenDelay is how long a program waits before it opens a device that it has just closed,
// so that other programs get a chance.
const reopenDelay = 2 * openPause

func (n *nodeLink) connect(ctx context.Context) (err error) {
	if rest := reopenDelay - time.Since(n.closedAt); rest > 0 {
		time.Sleep(rest)
	}
	for begin := time.Now(); ; {
		n.fd, err = retry(func() (int, error) {
			return syscall.Open(n.path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
		})
		if err == nil {
			n.opened, n.doing = true, "use"
			return nil
		}
		absent := n.opened && (err == syscall.ENOENT || err == syscall.ENODEV || err == syscall.ENXIO)
		if err != syscall.EBUSY && (!absent || n.noWait.Load() || time.Since(begin) > n.timeouts.grace) {
			return n.explain(err)
		}
		if waiting := sleep(ctx, openPause); waiting != nil {
			return n.explain(fmt.Errorf("%w, %w", err, waited(waiting, n.timeouts.turn)))
		}
	}
}

func (n *nodeLink) explain(err error) error {
	info, _ := os.Stat(n.path) // nil if there is none
	return nodeError(n.doing, n.path, info, err)
}

func (n *nodeLink) stopWaiting() { n.noWait.Store(true) }

func (n *nodeLink) disconnect() {
	if n.fd >= 0 {
		syscall.Close(n.fd)
	}
	n.closedAt = time.Now()
}

func (n *nodeLink) close() error { return nil }

// exchange gives up after limit. The kernel cannot cancel a command, so the goroutine that
// waits for it keeps the descriptor and closes it later.
func (n *nodeLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	fd, own := n.fd, bytes.Clone(cmd)
	var rsp []byte
	done := make(chan error, 1)
	go func() {
		var err error
		rsp, err = transmit(fd, own)
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

func transmit(fd int, cmd []byte) ([]byte, error) {
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

// openNode makes a Device for the device file of a TPM. It does not open other devices:
// opening alone can have effects, such as with a watchdog or a tape.
func (o opener) openNode(doing, name string) (*Device, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nodeError(doing, name, nil, err)
	}
	if err := checkNode(doing, name, info); err != nil {
		return nil, err
	}
	node := &nodeLink{path: name, timeouts: o.timeouts, doing: doing}
	if isManager(name, info) {
		return newDevice(name, &managedLink{node}, o.timeouts), nil
	}
	return newDevice(name, node, o.timeouts), nil
}

// checkNode returns an error if a path is not the device of a TPM. Without /sys it accepts
// every character device.
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

// nodeError explains why a device cannot be opened. info is nil if there is no such file.
func nodeError(doing, name string, info fs.FileInfo, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return failure(doing, name, ErrPermission, "%s: %w", permissionText(info), err)
	case errors.Is(err, syscall.EBUSY):
		return failure(doing, name, ErrBusy, "%s: %w", holdersOf(name), err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return failure(doing, name, ErrNoTPM, "there is no such device: switch the TPM on in the firmware's settings and see "+
			"that its driver is loaded (dmesg | grep -i tpm): %w", err)
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return failure(doing, name, ErrNoTPM, "the device has no TPM behind it: see that its driver is loaded "+
			"(dmesg | grep -i tpm): %w", err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// permissionText says who may open a device, and how to get the permission.
func permissionText(info fs.FileInfo) string {
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

// holdersOf says which process has a device open, as far as this user may see in /proc, and
// how to stop it.
func holdersOf(name string) string { return holderText(name, sysfs.Kernel{}.Holders(name)) }

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
