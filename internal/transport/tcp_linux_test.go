package transport

import (
	"context"
	"maclef/internal/tpmtest"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// fullPort is a TCP port with a queue as short as swtpm's, which is full; free makes a
// place in it.
func fullPort(t *testing.T) (address string, free func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "port")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { conn.Close() })
	}
	return l.Addr().String(), func() {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// A client that waits before a full queue is let in as soon as there is a place, even after a
// long wait.
func TestDialTCPFullQueue(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	address, free := fullPort(t)
	dialed := make(chan error, 1)
	go func() {
		conn, err := dialStream(context.Background(), "tcp", address)
		if err == nil {
			conn.Close()
		}
		dialed <- err
	}()
	select {
	case err := <-dialed:
		t.Fatalf("the queue was not full: %v", err)
	case <-time.After(1200 * time.Millisecond): // the kernel tries again each second at best
	}
	free()
	begin := time.Now()
	if err := <-dialed; err != nil || time.Since(begin) > 500*time.Millisecond {
		t.Errorf("let in %v after there was a place, %v", time.Since(begin), err)
	}
}

// A client that gives up before a full queue gets the cause of its context.
func TestDialTCPGivesUp(t *testing.T) {
	address, _ := fullPort(t)
	ctx, cancel := context.WithTimeoutCause(context.Background(), 100*time.Millisecond, errWaitTimeout)
	defer cancel()
	if _, err := dialStream(ctx, "tcp", address); err != errWaitTimeout {
		t.Error(err)
	}
}
