package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nodeLink is an open character device of the kernel's TPM driver: one write
// for a command, one read for its response. The descriptor stays in blocking
// mode, in which the driver carries the command out within the write.
type nodeLink struct {
	fd  int
	buf [maxSize]byte
}

func (n *nodeLink) begin() error { return nil }
func (n *nodeLink) end()         {}
func (n *nodeLink) close() error { return syscall.Close(n.fd) }

func (n *nodeLink) exchange(cmd []byte) ([]byte, error) {
	wrote, err := retry(func() (int, error) { return syscall.Write(n.fd, cmd) })
	if err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	if wrote != len(cmd) {
		return nil, fmt.Errorf("send command: the driver took %d of %d bytes", wrote, len(cmd))
	}
	got, err := retry(func() (int, error) { return syscall.Read(n.fd, n.buf[:]) })
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	return append([]byte(nil), n.buf[:got]...), nil
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
	fd, err := retry(func() (int, error) {
		return syscall.Open(name, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
	})
	if err != nil {
		return nil, nodeError(doing, name, info, err)
	}
	return newDevice(name, &nodeLink{fd: fd}, o.waits), nil
}

// checkNode tells a TPM's device from everything else with a path. Without
// /sys it believes every character device.
func checkNode(doing, name string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case mode.IsDir():
		return failure(doing, name, ErrNoTPM, "this is a directory, not the device of a TPM; for a software TPM in it give emulator:%s", name)
	case mode&fs.ModeSocket != 0:
		return failure(doing, name, ErrNoTPM, "this is a socket: give unix:%s", name)
	case mode&fs.ModeCharDevice == 0 || !ok:
		return failure(doing, name, ErrNoTPM, "this is %s, not the device of a TPM; give %s", kindOf(mode), nameForms)
	}
	switch class := deviceClass(numberOf(stat)); class {
	case "", "tpm", "tpmrm", "cuse":
		return nil
	default:
		return failure(doing, name, ErrNoTPM, "this is a device of the class %q, not a TPM; give %s", class, nameForms)
	}
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeCharDevice != 0:
		return "a character device"
	}
	return "a block device"
}

// deviceClass is what the kernel calls a kind of device ("tpm", "tty", "mem"),
// empty where /sys does not know it.
func deviceClass(number string) string {
	link, err := os.Readlink("/sys/dev/char/" + number + "/subsystem")
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// numberOf is a device's number as the kernel writes it: "10:224".
func numberOf(stat *syscall.Stat_t) string {
	rdev := uint64(stat.Rdev)
	return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
}

// deviceNumber is numberOf a character device, empty for anything else.
func deviceNumber(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return numberOf(stat)
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
