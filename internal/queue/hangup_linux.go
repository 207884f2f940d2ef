package queue

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// HungUp reports whether the peer of a connection has closed it, or its half of
// it, without reading from it.
func HungUp(c net.Conn) bool {
	for {
		if s, ok := c.(syscall.Conn); ok {
			raw, err := s.SyscallConn()
			return err == nil && hungUpRaw(raw)
		}
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return false
		}
		c = wrapped.NetConn()
	}
}

func hungUpRaw(raw syscall.RawConn) bool {
	gone := false
	err := raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || gone // an error: closed on this side
}
