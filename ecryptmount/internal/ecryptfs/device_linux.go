package ecryptfs

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// DevicePath is where the kernel talks to its daemons.
const DevicePath = "/dev/ecryptfs"

// ErrServed: another daemon answers for this user. The kernel has one for each.
var ErrServed = errors.New("another daemon answers for this user")

// A Device is one user's end of /dev/ecryptfs.
type Device struct {
	UID int
	fd  int
}

// OpenDevice becomes the daemon of the user uid: the kernel sends it the requests
// that processes with that effective user id cause, from now on. For other users
// than one's own it takes root. Errors: ErrServed, and those of open(2).
func OpenDevice(uid int) (*Device, error) {
	type result struct {
		fd  int
		err error
	}
	opened := make(chan result)
	// The kernel takes the effective user id of whoever opens it. User ids are a
	// thread's own for the kernel; the goroutine has one to itself.
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

// openAs opens the device with an effective user id. The real one stays, and with
// it the way back; access is checked with the file system's, which is set back at
// once.
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

// Close ends being the user's daemon. No Serve may be using the device.
func (d *Device) Close() error { return unix.Close(d.fd) }

// read reads a packet into buf. It returns 0 where there was none after all.
func (d *Device) read(buf []byte) (int, error) {
	n, err := unix.Read(d.fd, buf)
	if err == unix.EINTR || err == unix.EAGAIN {
		return 0, nil
	}
	return n, err
}

// reply writes a packet. It returns false where the kernel no longer waits for it.
func (d *Device) reply(b []byte) bool {
	for {
		_, err := unix.Write(d.fd, b)
		if err != unix.EINTR {
			clear(b)
			return err == nil
		}
	}
}
