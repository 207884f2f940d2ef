package tpmkey_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Four processes with more keys than there are places in a TPM 2.0 sign at once: every
// signature is valid, and nobody starves.
func TestProcessesShareFairly(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testProcessesShareFairly)
}

func testProcessesShareFairly(t *testing.T, gen generation) {
	names := map[string]string{"socket": tpmtest.Start(t, gen.state).Socket}
	if !gen.is20() {
		names["emulator"], _ = emulatorOfTutorial(t)
	}
	for what, name := range names {
		t.Run(what, func(t *testing.T) {
			const n = 4
			users := startUsers(t, n, name, gen.path(t, gen.secret), 2)
			for _, p := range users {
				p.tell("sign-for 2s")
			}
			var counts []int
			all := 0
			for _, p := range users {
				counts = append(counts, p.done())
				all += counts[len(counts)-1]
			}
			t.Log("signatures:", counts)
			for _, got := range counts {
				if got*n*4 < all { // half would be the goal on a quiet machine
					t.Errorf("one got %d of %d", got, all)
				}
			}
			for _, p := range users {
				p.ask("close")
			}
			wantEmpty(t, name)
		})
	}
}

// nobodyServed waits until swtpm serves a stranger, and returns how long that took.
func nobodyServed(t *testing.T, socket string) time.Duration {
	t.Helper()
	begin := time.Now()
	var conn net.Conn
	eventually(t, "swtpm takes a connection", func() (ok bool) { // its queue can be full
		var err error
		conn, err = net.Dial("unix", strings.TrimPrefix(socket, "unix:"))
		return err == nil
	})
	defer conn.Close()
	if err := getVersion(conn); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// sockets is how many sockets this process has open.
func sockets(t *testing.T) (n int) {
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

// A process that is idle process has released the TPM, and others can use it.
func TestNobodyHoldsTheTPMWhileIdle(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	tpm := openName(t, sw.Socket)
	users := startUsers(t, 2, sw.Socket, tpmtest.FixturePath(t, "tpm12-tutorial/auth"), 2)
	k, _ := askedKey(t, tpm)
	for _, p := range users {
		p.ask("sign 3")
	}
	nobodyServed(t, sw.Socket) // hangs where somebody holds it
	before := sockets(t)
	mustSign(t, k)
	eventually(t, "the connection has ended", func() bool { return sockets(t) == before })
	// In the middle of work a stranger waits for a moment only.
	for _, p := range users {
		p.tell("sign-for 1s")
	}
	for range 5 {
		if d := nobodyServed(t, sw.Socket); d > 10*time.Second {
			t.Errorf("a stranger waited for %v", d)
		}
	}
	for _, p := range users {
		p.done()
	}
}

// startHeld is a TPM that counts, which another program holds.
func startHeld(t *testing.T, gen generation) (p *tpmtest.Proxy, tpm *tpmkey.TPM, k *tpmkey.Key, holder *process) {
	t.Helper()
	p = tpmtest.StartProxy(t, tpmtest.Start(t, gen.state))
	tpm = openName(t, p.Name)
	k = loadFixture(t, tpm, gen.secret)
	mustSign(t, k)
	holder = startProgram(t, p.Name, nil)
	holder.ask("hold")
	p.Arm(countOnly, tpmtest.Fault{})
	return p, tpm, k, holder
}

// afterwards lets the holder go, and counts what reached the TPM.
func afterwards(t *testing.T, gen generation, p *tpmtest.Proxy, k *tpmkey.Key, holder *process) {
	t.Helper()
	holder.ask("drop")
	if err := p.WaitIdle(20 * time.Second); err != nil {
		t.Error(err)
	}
	for _, e := range p.Exchanges() {
		if e.Ordinal == gen.sign {
			t.Errorf("an operation that was given up was carried out: %#x", e.Ordinal)
		}
	}
	mustSign(t, k)
	signed := 0
	for _, e := range p.Exchanges() {
		if e.Ordinal == gen.sign {
			signed++
		}
	}
	if signed != 1 {
		t.Errorf("%d commands for the next signature", signed)
	}
}

func TestDeadlineWhileHeld(t *testing.T) { inBoth(t, testDeadlineWhileHeld) }

func testDeadlineWhileHeld(t *testing.T, gen generation) {
	p, _, k, holder := startHeld(t, gen)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	err := signs(k.WithContext(ctx))
	tpmtest.WantError(t, err, context.DeadlineExceeded)
	tpmtest.WantError(t, err, tpmkey.ErrBusy, "another program is using it")
	afterwards(t, gen, p, k, holder)
}

func TestCancelWhileHeld(t *testing.T) {
	t.Parallel()
	inBoth(t, testCancelWhileHeld)
}

func testCancelWhileHeld(t *testing.T, gen generation) {
	p, _, k, holder := startHeld(t, gen)
	ctx, cancel := context.WithCancel(context.Background())
	waiting := inBackground(func() error { return signs(k.WithContext(ctx)) })
	time.Sleep(50 * time.Millisecond) // it waits, or will find that it need not
	cancel()
	tpmtest.WantError(t, <-waiting, context.Canceled)
	afterwards(t, gen, p, k, holder)
}

func TestWaitWhileHeld(t *testing.T) { inBoth(t, testWaitWhileHeld) }

func testWaitWhileHeld(t *testing.T, gen generation) {
	tpmtest.Long(t, tpmtest.Waits)
	p := tpmtest.StartProxy(t, tpmtest.Start(t, gen.state))
	tpm := openWaiting(t, p.Name, 200*time.Millisecond)
	k := loadFixture(t, tpm, gen.secret)
	mustSign(t, k)
	holder := startProgram(t, p.Name, nil)
	holder.ask("hold")
	p.Arm(countOnly, tpmtest.Fault{})
	tpmtest.WantError(t, signs(k), tpmkey.ErrBusy, "another program is using it", "200ms")
	_, err := tpmkey.OpenWithOptions(context.Background(), p.Name, &tpmkey.OpenOptions{Wait: 100 * time.Millisecond})
	tpmtest.WantError(t, err, tpmkey.ErrBusy, "100ms")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = tpmkey.OpenWithOptions(ctx, p.Name, nil)
	tpmtest.WantError(t, err, context.DeadlineExceeded)
	afterwards(t, gen, p, k, holder)
}

// An operation waits for a holder that goes in time.
func TestWaitsForAHolder(t *testing.T) {
	t.Parallel()
	inBoth(t, testWaitsForAHolder)
}

func testWaitsForAHolder(t *testing.T, gen generation) {
	_, _, k, holder := startHeld(t, gen)
	waiting := inBackground(func() error { return signs(k) })
	time.Sleep(20 * time.Millisecond)
	holder.ask("drop")
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// Two processes have more keys together than there are places: each takes its own out at
// the end of its turn, and both go on.
func TestProcessesShareThePlaces(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	users := startUsers(t, 2, sw.Socket, tpmtest.FixturePath(t, "tpm12-tutorial/wrapped-auth"), 15)
	for range 2 {
		for _, p := range users {
			p.tell("sign 30")
		}
		for _, p := range users {
			p.done()
		}
	}
	for _, p := range users {
		p.ask("close")
	}
	wantEmpty(t, sw.Socket)
}

// wantEmpty checks that nothing is loaded any more.
func wantEmpty(t *testing.T, name string) {
	t.Helper()
	tpm := openName(t, name)
	if all, err := tpm.Loaded(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("left: %+v, %v", all, err)
	}
}

// More processes than there are places for keys, or for sessions.
func TestManyProcesses(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for _, c := range []struct {
		gen generation
		key string
		n   int
	}{{generations[0], "auth", 25}, {generations[1], "e2-rsa-auth-da", 8}, {generations[1], "pv-rsa-auth", 8}} {
		t.Run(c.gen.name+" "+c.key, func(t *testing.T) {
			sw := tpmtest.Start(t, c.gen.state)
			users := startUsers(t, c.n, sw.Socket, c.gen.path(t, c.key), 1)
			for range 2 {
				for _, p := range users {
					p.tell("sign 3")
				}
				for i, p := range users {
					if _, err := p.result(); err != nil {
						t.Errorf("process %d: %v", i, err)
					}
				}
			}
			for _, p := range users {
				p.ask("close")
			}
			wantEmpty(t, sw.Socket)
		})
	}
}

// A process that has more keys whose secrets it may not keep than there are sessions
// asks for some of them again, and goes on.
func TestMoreAskedKeysThanSessions(t *testing.T) {
	t.Parallel()
	inBoth(t, testMoreAskedKeysThanSessions)
}

func testMoreAskedKeysThanSessions(t *testing.T, gen generation) {
	n := 22
	if gen.is20() {
		n = 6
	}
	tpm := openState(t, gen.state)
	var keys []*tpmkey.Key
	for range n {
		keys = append(keys, loadWith(t, tpm, gen.secret, tutorialSRK(), asked()))
	}
	for i := range 3 * n {
		if err := signs(keys[i%n], i); err != nil {
			t.Fatal(i, err)
		}
	}
	if gen.is20() {
		agrees20(t, keys[0])
	}
}

// A key that makes room for another keeps what somebody would be asked for again.
func TestEvictionAsksForNoSecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	tpm := openName(t, sw.Socket)
	first, a := askedKey(t, tpm)
	second, b := askedKey(t, tpm)
	for range 8 {
		mustSign(t, loadFixture(t, tpm, "wrapped"))
	}
	other := startUsers(t, 1, sw.Socket, tpmtest.FixturePath(t, "tpm12-tutorial/wrapped-auth"), 15)[0]
	other.ask("sign 30")
	mustSign(t, first)
	mustSign(t, second)
	if n, m := a.n.Load(), b.n.Load(); n != 1 || m != 1 {
		t.Errorf("asked %d and %d times", n, m)
	}
	other.ask("close")
}

// Keys and sessions of a process that was killed in its turn are found and freed. The key
// of a living process works afterwards.
func TestKilledProcessLeavesOrphans(t *testing.T) {
	t.Parallel()
	inBoth(t, testKilledProcessLeavesOrphans)
}

func testKilledProcessLeavesOrphans(t *testing.T, gen generation) {
	p := tpmtest.StartProxy(t, tpmtest.Start(t, gen.state))
	tpm := openName(t, p.Name)
	own := loadFixture(t, tpm, gen.secret)
	mustSign(t, own)
	eventually(t, "the turn ends", func() bool { return loadedIn(t, p, gen) == 0 })
	dead := startUsers(t, 1, p.Name, gen.path(t, gen.secret), 1)[0]
	stop := make(chan struct{})
	p.Arm(0, tpmtest.Fault{Repeat: 1 << 20, Before: func(_ *tpmtest.Proxy, cmd []byte) {
		if commandOf(cmd) == gen.sign {
			dead.cmd.Process.Kill()
			<-stop
		}
	}})
	dead.tell("sign 1")
	dead.cmd.Wait()
	close(stop)
	p.Disarm()
	all, err := tpm.Loaded(t.Context())
	keys, sessions := 0, 0
	for _, o := range all {
		if o.Session {
			sessions++
		} else {
			keys++
		}
	}
	if keys != 1 || sessions != 1 || err != nil {
		t.Errorf("of the dead: %+v, %v", all, err)
	}
	if k, s, err := tpm.FlushOrphans(t.Context(), false); k != keys || s != sessions || err != nil {
		t.Errorf("freed %d keys, %d sessions, %v", k, s, err)
	}
	if all, err := tpm.Loaded(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("afterwards: %+v, %v", all, err)
	}
	mustSign(t, own)
}

// A process that is killed in the middle of its work stops nobody.
func TestKilledInMidOperation(t *testing.T) {
	t.Parallel()
	inBoth(t, testKilledInMidOperation)
}

func testKilledInMidOperation(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	k := loadFixture(t, openName(t, sw.Socket), gen.secret)
	for i := range 4 { // each leaves a key and a session; a TPM 2.0 has three places
		p := startUsers(t, 1, sw.Socket, gen.path(t, gen.secret), 1)[0]
		p.tell("sign-for 1m")
		mustSign(t, k, i)
		p.kill()
		mustSign(t, k, i)
	}
}

// Programs that are killed while they have keys and primaries loaded block nobody who
// has the same key: what they left is freed when the places are needed.
func TestKilledDoNotBlock(t *testing.T) {
	t.Parallel()
	inBoth(t, testKilledDoNotBlock)
}

func testKilledDoNotBlock(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	start := func() *process { return startUsers(t, 1, sw.Socket, gen.path(t, gen.secret), 1)[0] }
	for range 4 {
		p := start()
		p.ask("sign 1")
		p.kill()
	}
	p := start()
	p.ask("sign 1")
	p.ask("close")
}
