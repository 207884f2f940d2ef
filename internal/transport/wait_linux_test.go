package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// Nobody holds a TPM between turns: a stranger is served, and no connection is left.
func TestIdleDeviceLetsGo(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	s := tpmtest.Start(t, tpmtest.Fresh)
	dir := stateDir(t)
	for name, path := range map[string]string{s.Socket: filepath.Join(s.Dir, "sock"), "emulator:" + dir: filepath.Join(dir, "sock")} {
		d := mustOpen(t, name)
		before := openSockets(t)
		for range 3 {
			if err := alive(d); err != nil {
				t.Fatal(err)
			}
			if n := openSockets(t); n != before {
				t.Errorf("%d sockets are open, before %d", n, before)
			}
			conn := stranger(t, path)
			conn.Write(probeCommand)
			if n, err := conn.Read(make([]byte, 99)); n != 18 || err != nil {
				t.Error("a stranger was not served:", n, err)
			}
			conn.Close()
		}
	}
}

// A wait that was given up sends nothing, and says why it was.
func TestGivenUpWaitSendsNothing(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
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
		_, err := d.Acquire(ctx, time.Time{})
		cancel()
		wantError(t, err, ErrBusy, "another program is using it")
		if !errors.Is(err, kind) || !errors.Is(err, reason) {
			t.Errorf("%v: %v", kind, err)
		}
	}
	other.want("done ok", other.ask("release"))
	if err := p.WaitIdle(20 * time.Second); err != nil {
		t.Error(err)
	}
	if n := p.Count(); n > 1 { // WaitIdle's own
		t.Errorf("%d commands", n)
	}
	if err := alive(d); err != nil {
		t.Error(err)
	}
}

// StopWaiting ends a wait for a TPM that is away.
func TestStopWaiting(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	s := tpmtest.Start(t, tpmtest.Fresh)
	d := mustOpen(t, s.Socket)
	if err := alive(d); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	begin := time.Now()
	time.AfterFunc(50*time.Millisecond, d.StopWaiting)
	_, err := d.Acquire(context.Background(), time.Time{})
	wantError(t, err, ErrGone, "is swtpm running")
	if !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A wait for a turn outlives a TPM that is killed and started again meanwhile, even after a
// long wait.
func TestWaitOutlivesTPM(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	o := opener{timeouts: defaultTimeouts()}
	o.timeouts.grace = 2 * time.Second
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := tpmtest.Start(t, tpmtest.Fresh)
			name := s.Socket
			if network == "tcp" {
				name = overTCP(t, s)
			}
			d, err := tryOpen(o, name)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for _, row := range []struct{ queue, away time.Duration }{
				{50 * time.Millisecond, 0}, {50 * time.Millisecond, 300 * time.Millisecond}, {0, 100 * time.Millisecond},
				{o.timeouts.grace + 200*time.Millisecond, 0},
			} {
				if err := outlive(t, d, s, row.queue, row.away); err != nil {
					t.Errorf("%v: %v", row, err)
				}
			}
		})
	}
}

// outlive has a Device wait for a TPM that somebody else uses, and is killed then.
func outlive(t *testing.T, d *Device, s *tpmtest.SWTPM, queue, away time.Duration) error {
	t.Helper()
	holder := stranger(t, filepath.Join(s.Dir, "sock"))
	holder.Write(probeCommand)
	if n, err := holder.Read(make([]byte, 99)); n != 18 || err != nil {
		t.Fatal(n, err)
	}
	waited := make(chan error, 1)
	go func() {
		release, err := d.Acquire(context.Background(), time.Time{})
		if err == nil {
			err = alive(d)
			release()
		}
		waited <- err
	}()
	time.Sleep(queue)
	s.Kill()
	time.Sleep(away)
	s.Restart()
	return <-waited
}

// A wait ends for a TPM that hangs up on everybody, after it has worked.
func TestWaitForTPMThatHangsUpEnds(t *testing.T) {
	const grace = 300 * time.Millisecond
	for _, row := range []struct {
		name        string
		grace, turn time.Duration
		stop        bool
	}{
		{"told to stop", time.Minute, time.Minute, true},
		{"its grace is over", grace, time.Minute, false},
		{"the wait is over", grace, grace, false},
	} {
		for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
			t.Run(row.name+", "+network, func(t *testing.T) {
				t.Parallel()
				var broken atomic.Bool
				name := network + ":" + peer(t, network, address, func(c net.Conn) {
					if !broken.Load() {
						answering(good, good)(c)
					}
				})
				o := impatient()
				o.timeouts.grace, o.timeouts.turn = row.grace, row.turn
				d, err := tryOpen(o, name)
				if err != nil {
					t.Fatal(err)
				}
				broken.Store(true)
				begin := time.Now()
				if row.stop {
					time.AfterFunc(grace, d.StopWaiting)
				}
				_, err = d.Acquire(context.Background(), time.Time{})
				// Its last connection may have been in the making.
				if !errors.Is(err, ErrBusy) || row.turn > grace {
					wantError(t, err, ErrGone, name)
				}
				if took := time.Since(begin); took < grace/2 || took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// A wait for something that takes connections and never answers ends in time.
func TestLazyOpenEnds(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	const wait = 300 * time.Millisecond
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	for _, row := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"reads nothing", func(net.Conn) { <-over }},
		{"reads all", answering()},
	} {
		for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
			t.Run(row.name+", "+network, func(t *testing.T) {
				name := network + ":" + peer(t, network, address, row.serve)
				begin := time.Now()
				d, err := Open(name, wait)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				release, err := d.Acquire(context.Background(), time.Time{})
				if err == nil { // it read the first byte
					d.SetDeadline(begin.Add(wait))
					_, err = d.Send(probeCommand)
					release()
				}
				took := time.Since(begin)
				wantError(t, err, ErrBusy, name, "another program is using it")
				if took < wait-10*time.Millisecond || took > wait+500*time.Millisecond {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// A lateStream does something before it sets its first deadline.
type lateStream struct {
	stream
	before func()
	once   sync.Once
}

func (l *lateStream) SetDeadline(at time.Time) error {
	first := false
	l.once.Do(func() { first = true })
	if first {
		l.before()
	}
	return l.stream.SetDeadline(at)
}

// A caller who gives up while a connection is being made does not wait for an answer.
func TestProbeIsGivenUp(t *testing.T) {
	conn, err := dialStream(context.Background(), "tcp", peer(t, "tcp", "127.0.0.1:0", answering()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	late := &lateStream{stream: conn, before: func() {
		cancel()
		time.Sleep(100 * time.Millisecond) // for all that cancel starts
	}}
	s := &socketLink{network: "tcp", label: "tcp:x", conn: late, timeouts: defaultTimeouts(), doing: "use"}
	s.timeouts.turn = 3 * time.Second
	begin := time.Now()
	err = s.probe(ctx)
	wantError(t, err, ErrBusy, "another program")
	if took := time.Since(begin); took > 2*time.Second || !errors.Is(err, context.Canceled) {
		t.Errorf("it took %v: %v", took, err)
	}
	s.disconnect()
}

// A connection that is made anew for a command of the other generation is waited for
// no longer than the command may take.
func TestGenerationChangeHasLimit(t *testing.T) {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	path := filepath.Join(t.TempDir(), "s")
	var connections atomic.Int32
	peer(t, "unix", path, func(c net.Conn) {
		if connections.Add(1) == 1 {
			c.Read(make([]byte, 1))
		}
		<-over
	})
	o := impatient()
	o.timeouts.command, o.timeouts.probe, o.timeouts.turn = time.Minute, time.Minute, 3*time.Second
	d, err := o.find("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	mustAcquire(t, d)
	begin := time.Now()
	d.SetDeadline(begin.Add(200 * time.Millisecond))
	_, err = d.Send([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8})
	wantError(t, err, ErrBusy, path, "another program")
	if took := time.Since(begin); took > 2*time.Second || !errors.Is(err, ErrNotSent) {
		t.Errorf("it took %v: %v", took, err)
	}
}
