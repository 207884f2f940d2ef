package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// stranger is a program that shares nothing: it is served, or waits.
func stranger(t *testing.T, path string) net.Conn {
	t.Helper()
	var conn net.Conn
	await(t, "swtpm takes a connection", func() bool { // its queue can be full
		var err error
		conn, err = net.Dial("unix", path)
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// openSockets is how many sockets this process has open.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// down waits until a Device has let go.
func down(t *testing.T, d *Device) {
	t.Helper()
	await(t, "the connection has ended", func() bool {
		d.wire.Lock()
		defer d.wire.Unlock()
		return !d.up
	})
}

// Nobody holds a TPM while idle: a stranger is served, and no connection is left.
func TestIdleDeviceLetsGo(t *testing.T) {
	s := tpmtest.Start(t, tpmtest.Fresh)
	dir := stateDir(t)
	for name, path := range map[string]string{s.Socket: filepath.Join(s.Dir, "sock"), "emulator:" + dir: filepath.Join(dir, "sock")} {
		d := mustOpen(t, name)
		down(t, d)
		before := openSockets(t)
		for range 3 {
			if err := alive(d); err != nil {
				t.Fatal(err)
			}
			conn := stranger(t, path)
			conn.Write(probeCommand[:])
			if n, err := conn.Read(make([]byte, 99)); n != 18 || err != nil {
				t.Error("a stranger was not served:", n, err)
			}
			conn.Close()
		}
		await(t, "all connections have ended", func() bool { return openSockets(t) <= before })
	}
}

// A wait that was given up sends nothing, and says why it was.
func TestGivenUpWaitSendsNothing(t *testing.T) {
	p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Fresh))
	d := mustOpen(t, p.Name)
	if err := alive(d); err != nil {
		t.Fatal(err)
	}
	other := startUser(t, p.Name, nil)
	other.want("open ok", other.answer())
	other.want("done ok", other.ask("acquire"))
	p.Arm(1<<30, tpmtest.Fault{}) // counts
	reason := errors.New("the office closes")
	for kind, give := range map[error]func() (context.Context, func()){
		context.DeadlineExceeded: func() (context.Context, func()) {
			return context.WithTimeoutCause(context.Background(), 50*time.Millisecond, reason)
		},
		context.Canceled: func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(50*time.Millisecond, func() { cancel(reason) })
			return ctx, func() { cancel(nil) }
		},
	} {
		ctx, cancel := give()
		_, err := d.Acquire(ctx)
		cancel()
		wantError(t, err, ErrBusy, fmt.Sprintf("(process %d)", other.cmd.Process.Pid))
		if !errors.Is(err, kind) || !errors.Is(err, reason) {
			t.Errorf("%v: %v", kind, err)
		}
	}
	other.want("done ok", other.ask("release"))
	if err := p.Settle(20 * time.Second); err != nil {
		t.Error(err)
	}
	if n := p.Count(); n > 1 { // Settle's own
		t.Errorf("%d commands", n)
	}
	if err := alive(d); err != nil {
		t.Error(err)
	}
}

// Whoever waits for a TPM that is away stops when told to hurry.
func TestHurryEndsTheWait(t *testing.T) {
	s := tpmtest.Start(t, tpmtest.Fresh)
	d := mustOpen(t, s.Socket)
	if err := alive(d); err != nil {
		t.Fatal(err)
	}
	down(t, d)
	s.Kill()
	begin := time.Now()
	time.AfterFunc(50*time.Millisecond, d.Hurry)
	_, err := d.Acquire(context.Background())
	wantError(t, err, ErrGone, "is swtpm running")
	if !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
