package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// together calls f(0) to f(n-1) at once and returns a function that waits.
func together(n int, f func(i int)) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f(i)
		}()
	}
	return wg.Wait
}

func TestEmulatorIsShared(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	name := "emulator:" + dir
	first := startUser(t, name, nil)
	first.want("open ok", first.answer())
	swtpm := pidOf(t, dir, "swtpm")
	second := startUser(t, name, nil)
	second.want("open ok", second.answer())
	d := mustOpen(t, name)
	second.want("done ok", second.ask("send 3"))
	if err := alive(d); err != nil {
		t.Error(err)
	}
	first.signal(syscall.SIGKILL) // it had started swtpm
	second.want("done ok", second.ask("send 100"))
	d.Close()
	second.want("done ok", second.ask("send 100"))
	if pidOf(t, dir, "swtpm") != swtpm {
		t.Error("it was not the same swtpm for all")
	}
	second.signal(syscall.SIGKILL)
	emptied(t, dir)
	if d = mustOpen(t, name); alive(d) != nil {
		t.Error("after all were killed")
	}
}

func TestEmulatorSharedAtOnce(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	name := "emulator:" + stateDir(t)
	var users []*process
	for range 4 {
		users = append(users, startUser(t, name, nil))
	}
	for _, p := range users {
		p.want("open ok", p.answer())
	}
	together(len(users), func(i int) {
		if got := users[i].ask("send 300"); got != "done ok <nil>" {
			t.Error(got)
		}
	})()
}

// Ctrl-C reaches the whole foreground process group, and not the swtpm that the
// group started.
func TestEmulatorInterrupted(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	group := func(pgid int) func(*exec.Cmd) {
		return func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: pgid} }
	}
	starter := startUser(t, "emulator:"+dir, group(0))
	starter.want("open ok", starter.answer())
	companion := startUser(t, "emulator:"+dir, group(starter.cmd.Process.Pid))
	companion.want("open ok", companion.answer())
	other := startUser(t, "emulator:"+dir, nil)
	other.want("open ok", other.answer())
	syscall.Kill(-starter.cmd.Process.Pid, syscall.SIGINT)
	starter.cmd.Wait()
	companion.cmd.Wait()
	other.want("done ok", other.ask("send 10"))
	other.ask("acquire")
	other.signal(syscall.SIGINT)
	emptied(t, dir)
}

// A user killed while the TPM works for it, in its turn.
func TestEmulatorKilledInMidCommand(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	name := "emulator:" + dir
	d := mustOpen(t, name)
	for _, alone := range []bool{false, true} {
		p := startUser(t, name, nil)
		p.want("open ok", p.answer())
		p.want("done ok", p.ask("acquire"))
		if alone {
			d.Close()
		}
		p.in.Write([]byte("send 100000\n"))
		time.Sleep(50 * time.Millisecond)
		p.signal(syscall.SIGKILL)
		if alone {
			d = mustOpen(t, name)
		}
		if err := alive(d); err != nil {
			t.Error(alone, err)
		}
	}
}

func TestEmulatorSWTPMKilled(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	name := "emulator:" + dir
	old := mustOpen(t, name)
	other := startUser(t, name, nil)
	other.want("open ok", other.answer())
	release := mustAcquire(t, old)
	killProgram(t, dir, "swtpm")
	opened := old.Opened()
	if err := alive(old); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	wantBroken(t, old)
	release()
	if err := alive(old); err != nil || old.Opened() != opened+1 {
		t.Error("in the next turn:", err, opened, old.Opened())
	}
	for range 2 { // each finds no swtpm and starts one
		fresh := mustOpen(t, name)
		if err := alive(fresh); err != nil {
			t.Error(err)
		}
		killProgram(t, dir, "swtpm")
	}
	fresh := mustOpen(t, name)
	other.want("done ok", other.ask("send 1"))
	if err := alive(fresh); err != nil {
		t.Error(err)
	}
	fresh.Close()
}

func TestEmulatorWatcherKilled(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	for _, program := range []string{"sh", "flock"} {
		d := mustOpen(t, "emulator:"+dir)
		killProgram(t, dir, program)
		again := mustOpen(t, "emulator:"+dir)
		if err := alive(again); err != nil {
			t.Log(program, err)
		}
		d.Close()
		again.Close()
		emptied(t, dir)
	}
}

func TestTurns(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	o := opener{timeouts: defaultTimeouts()}
	o.timeouts.turn = 100 * time.Millisecond
	a, err := tryOpen(o, "emulator:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := mustOpen(t, "emulator:"+dir)
	release, err := b.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := alive(a); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	}
	if err := alive(b); err != nil {
		t.Error("within the turn:", err)
	}
	release()
	if err := errors.Join(alive(a), alive(b)); err != nil {
		t.Error(err)
	}
	if release, err = a.Acquire(context.Background(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := a.Acquire(context.Background(), time.Time{}); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	release()
	if err := alive(b); err != nil {
		t.Error("after Close in a turn:", err)
	}
}

func TestTurnsOfGoroutines(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	dir := stateDir(t)
	devices := []*Device{mustOpen(t, "emulator:"+dir), mustOpen(t, "emulator:"+dir)}
	var inside atomic.Int32
	together(6, func(i int) {
		d := devices[i%2]
		for range 40 {
			release, err := d.Acquire(context.Background(), time.Time{})
			if err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two turns at once")
			}
			if err := errors.Join(alive(d), alive(d)); err != nil {
				t.Error(err)
			}
			inside.Add(-1)
			release()
		}
	})()
}

// Processes come, work, and are killed at any moment; whoever is left works.
func TestEmulatorStorm(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	dir := stateDir(t)
	name := "emulator:" + dir
	wait := together(3, func(int) {
		for range 8 {
			p := startUser(t, name, nil)
			p.in.Write([]byte("send 100000\n"))
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			p.signal(syscall.SIGKILL)
		}
	})
	for range 8 {
		d, err := openNow(name)
		if err == nil {
			err = errors.Join(alive(d), d.Close())
		}
		if err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	wait()
	emptied(t, dir)
	if err := alive(mustOpen(t, name)); err != nil {
		t.Error(err)
	}
}
