package ecryptfs

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// DevicePath is the device through which the kernel talks to its daemons.
const DevicePath = "/dev/ecryptfs"

// ErrServed says that another daemon serves this user. The kernel has one for each user.
var ErrServed = errors.New("this user has another daemon")

// A Device is an open /dev/ecryptfs of one user.
type Device struct {
	UID int
	fd  int
}

// OpenDevice becomes the daemon of the user uid: the kernel sends it the requests of processes with
// that effective user id. Only root can do this for other users. Errors: ErrServed, and those of
// open(2).
func OpenDevice(uid int) (*Device, error) {
	type result struct {
		fd  int
		err error
	}
	opened := make(chan result)
	// The kernel takes the effective user id of the thread that opens the device, so the goroutine
	// needs a thread of its own.
	go func() {
		runtime.LockOSThread()
		fd, restored, err := openAs(uid)
		if restored {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine
		opened <- result{fd, err}
	}()
	r := <-opened
	if errors.Is(r.err, unix.EINVAL) {
		r.err = ErrServed
	}
	if r.err != nil {
		return nil, fmt.Errorf("open %s for the user %d: %w", DevicePath, uid, r.err)
	}
	return &Device{UID: uid, fd: r.fd}, nil
}

// openAs opens the device with an effective user id. It keeps the real user id, to be able to
// change back. It resets the file system's user id at once, so that access is still checked for
// root.
func openAs(uid int) (fd int, restored bool, err error) {
	const keep = ^uintptr(0)
	own := unix.Geteuid()
	if uid != own {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
			return -1, true, errno
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(own), 0, 0)
	}
	for {
		if fd, err = unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0); err != unix.EINTR {
			break
		}
	}
	if uid != own {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(own), keep); errno != 0 {
			return fd, false, err
		}
	}
	return fd, true, err
}

// Close closes the device. No Serve may be using it.
func (d *Device) Close() error { return unix.Close(d.fd) }

// read reads a packet into buf. It returns 0 if there is none.
func (d *Device) read(buf []byte) (int, error) {
	n, err := unix.Read(d.fd, buf)
	if err == unix.EINTR || err == unix.EAGAIN {
		return 0, nil
	}
	return n, err
}

// reply writes a packet. It returns false if the kernel no longer waits for it.
func (d *Device) reply(b []byte) bool {
	for {
		_, err := unix.Write(d.fd, b)
		if err != unix.EINTR {
			clear(b)
			return err == nil
		}
	}
}
