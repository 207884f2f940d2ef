package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roomRequest is what a process that finds the TPM full sends to the agents of
// the others: free what you do not need now.
const roomRequest = "room"

// Requests are heard from everybody who can send them, because processes of
// different users share a TPM, often by a group that credentials do not show.
// The worst that a stranger can do is to have keys loaded anew; so strangers are
// heard less often than root and this process's own user.
const (
	friendInterval   = 50 * time.Millisecond
	strangerInterval = time.Second
)

// askRoom asks all others that have claims, and an agent, to free what they do
// not need now. It does not wait until they have. asked is how many there are;
// another ledger of this process counts as another.
func (l *ledger) askRoom() (asked int, err error) {
	names, err := l.look()
	if err != nil {
		return 0, err
	}
	claimants := map[socketOwner]bool{}
	for name := range names {
		if name.kind != agentKind && name.kind != markerKind && name.owner != l.owner {
			claimants[name.owner] = true
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for name := range names {
		if name.kind != agentKind || !claimants[name.owner] {
			continue
		}
		err := unix.Sendto(fd, []byte(roomRequest), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: "@" + name.in(l.id)})
		if err == nil || err == unix.EAGAIN { // EAGAIN: requests are waiting there
			asked++
		}
	}
	return asked, nil
}

// onAsked has f called, in a goroutine, when another process wants room on the
// TPM: at once, but at most every 50 ms; however many have asked meanwhile, it
// is called once for all. Only the first call of onAsked counts. A call of f
// that is under way can outlast close; then f must do no harm. If nothing can
// be bound, what this process has loaded stays until it is flushed.
func (l *ledger) onAsked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.agent != nil || !validID(l.id) {
		return
	}
	conn, err := bindAgent(socketName{kind: agentKind, owner: l.owner}.in(l.id))
	if err != nil {
		return
	}
	l.agent = conn
	go hear(conn, f)
}

// bindAgent returns a socket to which everybody can send, with the sender's
// credentials.
func bindAgent(name string) (*net.UnixConn, error) {
	credentials := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	conn, err := (&net.ListenConfig{Control: credentials}).ListenPacket(context.Background(), "unixgram", "@"+name)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// hear calls f when it is asked to, until the socket is closed.
func hear(conn *net.UnixConn, f func()) {
	request := make([]byte, len(roomRequest)+1)
	credentials := make([]byte, unix.CmsgSpace(unix.SizeofUcred)) // no room for descriptors that one may send
	var last, due time.Time                                       // of f
	for {
		conn.SetReadDeadline(due) // zero: none
		n, oob, _, _, err := conn.ReadMsgUnix(request, credentials)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			f()
			last, due = time.Now(), time.Time{}
		case err != nil:
			return
		case string(request[:n]) == roomRequest:
			when := last.Add(interval(credentials[:oob]))
			if due.IsZero() || when.Before(due) {
				due = when
			}
			time.Sleep(time.Millisecond) // a flood shall not keep a processor busy
		}
	}
}

// interval is the time between two calls, by who asks for the second.
func interval(credentials []byte) time.Duration {
	messages, err := unix.ParseSocketControlMessage(credentials)
	if err != nil || len(messages) == 0 {
		return strangerInterval
	}
	sender, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil || sender.Uid != 0 && int(sender.Uid) != os.Getuid() {
		return strangerInterval
	}
	return friendInterval
}
