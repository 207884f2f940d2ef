package transport

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/unix_diag.h: what to tell of a Unix socket, and the attributes that
// tell it.
const (
	udiagShowName = 1 << 0
	udiagShowVFS  = 1 << 1
	udiagShowPeer = 1 << 2

	unixDiagName = 0
	unixDiagVFS  = 1
	unixDiagPeer = 2

	unixDiagRequestSize = 24
	unixDiagMessageSize = 16
	tcpEstablished      = 1 // Unix sockets borrow TCP's states
)

// unixSocket is a connected Unix socket as sock_diag(7) tells of it.
type unixSocket struct {
	inode, peer uint32
	name        string // to which it, or the server that accepted it, was bound
	fileInode   uint32 // of that name, cut to 32 bits
	fileDevice  uint32 // in the kernel's own encoding
}

// unixConnections returns the connections that a server on a Unix socket has
// taken in. The file tells the socket, whatever path it was bound by.
func unixConnections(path string, deadline time.Time) []connection {
	var stat unix.Stat_t
	if !strings.HasPrefix(path, "@") {
		if err := unix.Stat(path, &stat); err != nil {
			return nil
		}
	}
	device := unix.Major(uint64(stat.Dev))<<20 | unix.Minor(uint64(stat.Dev))
	var found []connection
	dumpUnix(deadline, func(s unixSocket) {
		// Some file systems (btrfs) give stat another device than the kernel has.
		same := s.fileInode == uint32(stat.Ino) && (s.fileDevice == device || filepath.Base(s.name) == filepath.Base(path))
		if strings.HasPrefix(path, "@") {
			same = s.name == "\x00"+path[1:]
		}
		if same && s.inode != 0 && s.peer != 0 && len(found) < maxConnections {
			found = append(found, connection{client: uint64(s.peer), server: uint64(s.inode)})
		}
	})
	return found
}

// dumpUnix calls found with the connected Unix sockets of this network
// namespace, as far as the kernel tells of them before the deadline.
func dumpUnix(deadline time.Time, found func(unixSocket)) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	tenth := unix.NsecToTimeval(int64(time.Second / 10))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tenth); err != nil {
		return
	}
	if err := unix.Sendto(fd, unixDiagRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	for time.Now().Before(deadline) {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || !parseUnixDiag(buf[:n], found) {
			return
		}
	}
}

// unixDiagRequest is a struct nlmsghdr and a struct unix_diag_req.
func unixDiagRequest() []byte {
	e := binary.NativeEndian
	b := e.AppendUint32(nil, unix.NLMSG_HDRLEN+unixDiagRequestSize)
	b = e.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = e.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = e.AppendUint32(b, 1) // sequence
	b = e.AppendUint32(b, 0) // port
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	b = e.AppendUint32(b, 1<<tcpEstablished)
	b = e.AppendUint32(b, 0) // inode: any
	b = e.AppendUint32(b, udiagShowName|udiagShowVFS|udiagShowPeer)
	return append(b, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF) // cookie: any
}

// parseUnixDiag calls found with each socket in a part of the kernel's answer,
// and reports whether more may follow.
func parseUnixDiag(part []byte, found func(unixSocket)) (more bool) {
	messages, err := syscall.ParseNetlinkMessage(part)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Type != unix.SOCK_DIAG_BY_FAMILY {
			return false // NLMSG_DONE or NLMSG_ERROR
		}
		if s, ok := parseUnixSocket(m.Data); ok {
			found(s)
		}
	}
	return true
}

// parseUnixSocket reads a struct unix_diag_msg and its attributes.
func parseUnixSocket(data []byte) (s unixSocket, ok bool) {
	e := binary.NativeEndian
	if len(data) < unixDiagMessageSize || data[0] != unix.AF_UNIX || data[2] != tcpEstablished {
		return s, false
	}
	s.inode = e.Uint32(data[4:])
	for rest := data[unixDiagMessageSize:]; len(rest) >= unix.SizeofNlAttr; {
		size := int(e.Uint16(rest))
		if size < unix.SizeofNlAttr || size > len(rest) {
			return s, false
		}
		value := rest[unix.SizeofNlAttr:size]
		switch kind := e.Uint16(rest[2:]); {
		case kind == unixDiagName:
			s.name = string(value)
		case kind == unixDiagVFS && len(value) == 8:
			s.fileInode, s.fileDevice = e.Uint32(value), e.Uint32(value[4:])
		case kind == unixDiagPeer && len(value) == 4:
			s.peer = e.Uint32(value)
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return s, true
}
