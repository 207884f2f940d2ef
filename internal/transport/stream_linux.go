package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A unixStream is a connection to a Unix socket.
type unixStream struct {
	*os.File
	raw syscall.RawConn
}

func newUnixStream(fd int, path string) (stream, error) {
	f := os.NewFile(uintptr(fd), path)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return unixStream{f, raw}, nil
}

// unread asks the kernel for the bytes in the send queue. The number includes the kernel's
// own overhead.
func (u unixStream) unread() int  { return askKernel(u.raw, unix.SIOCOUTQ) }
func (u unixStream) pending() int { return askKernel(u.raw, unix.SIOCINQ) }

// peerClosed reports whether the peer has closed its end. The kernel then drops unread
// bytes.
func (u unixStream) peerClosed() bool {
	poll := []unix.PollFd{{Events: unix.POLLRDHUP}}
	err := u.raw.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		retry(func() (int, error) { return unix.Poll(poll, 0) })
	})
	return err != nil || poll[0].Revents != 0
}

// askKernel asks the kernel about a connection. It returns 0 on error.
func askKernel(raw syscall.RawConn, what uint) (n int) {
	var asked error
	err := raw.Control(func(fd uintptr) { n, asked = unix.IoctlGetInt(int(fd), what) })
	if err != nil || asked != nil {
		return 0
	}
	return n
}

// A tcpStream is a TCP connection.
type tcpStream struct{ net.Conn }

func (tcpStream) unread() int      { return -1 }
func (tcpStream) peerClosed() bool { return false }

func (t tcpStream) pending() int {
	if c, ok := t.Conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return askKernel(raw, unix.SIOCINQ)
		}
	}
	return 0
}

// dialStream connects to a TPM. If the queue of a Unix socket is full, it waits; the kernel
// serves callers in their order.
func dialStream(ctx context.Context, network, address string) (stream, error) {
	if network != "unix" {
		conn, err := dialTCP(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tcpStream{conn}, nil
	}
	fd, err := tryConnect(address)
	if errors.Is(err, syscall.EAGAIN) {
		fd, err = connectWaiting(ctx, address)
	}
	if err != nil {
		return nil, err
	}
	return newUnixStream(fd, address)
}

// tryConnect connects. It returns EAGAIN if it would have to wait.
func tryConnect(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := connectUnix(fd, path); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// connectLimit is how long a thread waits in the kernel before it checks its context.
const connectLimit = 200 * time.Millisecond

// connectWaiting connects to a socket whose queue is full.
func connectWaiting(ctx context.Context, path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(connectLimit.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	for err == nil {
		err = connectUnix(fd, path)
		if err == nil {
			return fd, unix.SetNonblock(fd, true)
		}
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			if err = ctxError(ctx); err == nil {
				continue
			}
		}
	}
	unix.Close(fd)
	return -1, err
}

// maxUnixPath is the longest path that fits into struct sockaddr_un.
const maxUnixPath = 107

// connectUnix connects to a Unix socket whose path may be too long for struct sockaddr_un.
func connectUnix(fd int, path string) error {
	to := path
	if len(path) > maxUnixPath {
		socket, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer socket.Close()
		to = fmt.Sprintf("/proc/self/fd/%d", socket.Fd())
	}
	if to == "" {
		return &os.PathError{Op: "connect", Path: path, Err: syscall.ENOENT} // otherwise it would be an abstract socket
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: to}); err != nil {
		return &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return nil
}
