package tpmkey_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

var stressFor = flag.Duration("stress", 0, "TestStress: all ways to a TPM with 2, 3 and 4 programs, each for so long, such as 60s")

// How often the TPM is restarted and flushed, and how long each case of the short form takes.
const (
	restartEvery = 1500 * time.Millisecond
	flushEvery   = 100 * time.Millisecond
	shortStress  = 1800 * time.Millisecond
)

// ways are those to a software TPM.
var ways = []struct {
	name string
	open func(*testing.T, generation) *ground
}{{"unix", unixGround}, {"tcp", tcpGround}, {"emulator", emulatorGround}}

// TestStress has programs sign with keys that have secrets while somebody flushes all
// that is loaded, and somebody restarts the TPM: every signature is right, nobody sees an
// error, no try is spent, and nothing is left.
func TestStress(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testStress)
}

func testStress(t *testing.T, gen generation) {
	for i, way := range ways {
		for n := 2; n <= 4; n++ {
			if *stressFor == 0 && n != 2+i {
				continue // of the short form
			}
			t.Run(fmt.Sprintf("%s, %d programs", way.name, n), func(t *testing.T) {
				s := &stress{t: t, gen: gen, ground: way.open(t, gen), n: n, time: max(*stressFor, shortStress)}
				s.run()
			})
		}
	}
}

// stressKeys are keys with a secret, of which the first counts wrong ones.
func stressKeys(t *testing.T, gen generation) []string {
	if gen.is20() {
		return []string{gen.path(t, "pv-rsa-auth"), gen.path(t, "e2-p256-auth")}
	}
	return []string{gen.path(t, "auth"), gen.path(t, "wrapped-auth")}
}

// A stress is one case.
type stress struct {
	t      *testing.T
	gen    generation
	ground *ground
	n      int
	time   time.Duration

	programs []*process
	signed   []int        // how often each has signed
	visits   atomic.Int32 // of the flusher
	found    int          // what it has flushed
	restarts int
}

func (s *stress) run() {
	tpm := openName(s.t, s.ground.name)
	s.start()
	stop, flushed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(flushed)
		s.flush(stop)
	}()
	// A busy machine lets the flusher wait, or a program.
	for round := 0; round == 0 || (s.visits.Load() == 0 || slices.Contains(s.signed, 0)) && round < 20; round++ {
		s.sign()
		s.restart()
		s.count()
		s.t.Logf("%d restarts, %d visits of the flusher, signatures %v", s.restarts, s.visits.Load(), s.signed)
	}
	if slices.Contains(s.signed, 0) {
		s.t.Errorf("signatures: %v", s.signed)
	}
	close(stop)
	<-flushed
	if n := s.visits.Load(); n == 0 || s.found > 0 {
		s.t.Errorf("the flusher came %d times, and flushed %d things", n, s.found)
	}
	tries(s.t, tpm) // starts an emulator that was ended last
	s.wantIdle()
	for i, p := range s.programs {
		if n := p.ask("asked"); n > 4*(s.restarts+1) {
			s.t.Errorf("program %d asked %d times for 4 secrets in %d restarts", i, n, s.restarts)
		}
		p.ask("close")
	}
	if n := tries(s.t, tpm); n != 0 {
		s.t.Errorf("%d tries are counted", n)
	}
	if left, err := tpm.Loaded(context.Background()); len(left) > 0 || err != nil {
		s.t.Errorf("left: %+v, %v", left, err)
	}
}

// wantIdle checks that nothing is loaded, where nobody has anything to do.
func (s *stress) wantIdle() {
	s.t.Helper()
	tpm := s.ground.mustDial(s.t)
	defer tpm.Close()
	if keys, sessions, err := s.gen.loaded(tpm); len(keys)+len(sessions) > 0 || err != nil {
		s.t.Errorf("all are idle, and loaded are %#x, %#x: %v", keys, sessions, err)
	}
}

// start starts the programs.
func (s *stress) start() {
	for range s.n {
		s.programs = append(s.programs, startProgram(s.t, s.ground.name, nil))
	}
	s.signed = make([]int, s.n)
	words := []string{"open"}
	for _, file := range stressKeys(s.t, s.gen) {
		words = append(words, "load "+file+" 1", "load-asked "+file)
	}
	for _, p := range s.programs {
		for _, word := range words {
			p.tell(word)
		}
	}
	for _, p := range s.programs {
		for range words {
			p.done()
		}
	}
}

// sign has the programs sign. One of two signs with all keys at once.
func (s *stress) sign() {
	for i, p := range s.programs {
		p.tell([]string{"sign-for ", "sign-all-for "}[i%2] + s.time.String())
	}
}

// restart restarts the TPM as long as the programs sign; for the first time soon.
func (s *stress) restart() {
	end := time.Now().Add(s.time - restartEvery/15)
	for at := time.Now().Add(restartEvery / 15); at.Before(end); at = time.Now().Add(restartEvery) {
		time.Sleep(time.Until(at))
		s.ground.restartInOrder(s.t, s.gen)
		s.restarts++
	}
}

// count waits for the programs, and counts how often each has signed.
func (s *stress) count() {
	s.t.Helper()
	for i, p := range s.programs {
		n, err := p.resultWithin(s.time + time.Minute)
		if err != nil {
			s.t.Errorf("program %d, after %d signatures: %v", i, n, err)
		}
		s.signed[i] += n
	}
}

// flush is the foreign program.
func (s *stress) flush(stop <-chan struct{}) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		tpm, err := s.ground.dial()
		if err != nil {
			continue // it restarts, or too many wait
		}
		if n, err := s.gen.flush(tpm); err == nil {
			s.visits.Add(1)
			s.found += n
		}
		tpm.Close()
	}
}

// loaded are the handles of what is loaded in a TPM.
func (gen generation) loaded(tpm *bareTPM) (keys, sessions []uint32, err error) {
	if gen.is20() {
		if keys, err = tpmtest.Handles20(tpm, 0x80000000); err == nil {
			sessions, err = tpmtest.Handles20(tpm, 0x02000000)
		}
		return keys, sessions, err
	}
	conn := tpm12.New(tpm)
	handles, err := conn.LoadedKeys()
	for _, h := range handles {
		keys = append(keys, uint32(h))
	}
	if err == nil {
		sessions, err = conn.Sessions()
	}
	return keys, sessions, err
}

// flush flushes all that is loaded in a TPM, and returns how much that was.
func (gen generation) flush(tpm *bareTPM) (n int, err error) {
	keys, sessions, err := gen.loaded(tpm)
	for _, h := range sessions {
		tpm.flush(gen, h, true)
	}
	for _, h := range keys {
		tpm.flush(gen, h, false)
	}
	return len(keys) + len(sessions), err
}

// A bareTPM is a connection to a software TPM past the library.
type bareTPM struct{ net.Conn }

func (b *bareTPM) Send(cmd []byte) ([]byte, error) {
	b.SetDeadline(time.Now().Add(time.Minute))
	if _, err := b.Write(cmd); err != nil {
		return nil, err
	}
	return frame.Read(b)
}

func (b *bareTPM) flush(gen generation, handle uint32, session bool) error {
	switch {
	case gen.is20():
		return tpm20.New(b).Flush(tpm2.TPMHandle(handle))
	case session:
		return tpm12.New(b).FlushSession(handle)
	}
	return tpm12.New(b).FlushSpecific(tpm12.Handle(handle))
}

// A ground is a TPM that programs share.
type ground struct {
	name             string // to open it by
	network, address string // of its data channel
	restart          func() // ends it, and starts it where nobody else does
}

// dial waits until the TPM lets it in. Where the queue of a TCP port is full nothing comes
// back, and the kernel would try again ever more rarely.
func (g *ground) dial() (*bareTPM, error) {
	if g.network == "unix" {
		return queueFor(g.address)
	}
	for begin := time.Now(); ; {
		conn, err := net.DialTimeout(g.network, g.address, 50*time.Millisecond)
		switch {
		case err == nil:
			return &bareTPM{conn}, nil
		case !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) > bareWait:
			return nil, err
		}
	}
}

// bareWait is how long a program past the library waits for the others.
const bareWait = 20 * time.Second

// queueFor connects to a Unix socket. Where its queue is full that waits in the kernel, as
// the library does: who tries again and again would never be let in.
func queueFor(path string) (*bareTPM, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	limit := syscall.NsecToTimeval(bareWait.Nanoseconds())
	if err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit); err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &bareTPM{conn}, nil
}

// mustDial connects to a TPM that may be starting.
func (g *ground) mustDial(t *testing.T) (tpm *bareTPM) {
	t.Helper()
	eventually(t, "the TPM takes a connection", func() (ok bool) {
		var err error
		tpm, err = g.dial()
		return err == nil
	})
	return tpm
}

// restartInOrder restarts a TPM while nobody else is served. A TPM 2.0 is told before.
func (g *ground) restartInOrder(t *testing.T, gen generation) {
	t.Helper()
	tpm := g.mustDial(t)
	defer tpm.Close()
	if err := tell(tpm, gen); err != nil {
		t.Errorf("before the restart: %v", err)
	}
	g.restart()
}

// tell waits until it is served. A TPM 2.0 knows then that it will be switched off.
func tell(tpm *bareTPM, gen generation) error {
	if gen.is20() {
		return tpm20.New(tpm).Shutdown()
	}
	return getVersion(tpm)
}

func unixGround(t *testing.T, gen generation) *ground {
	sw := tpmtest.Start(t, gen.state)
	return &ground{sw.Socket, "unix", strings.TrimPrefix(sw.Socket, "unix:"), sw.Restart}
}

// stopped is a software TPM's directory; the program has been ended in order.
func stopped(t *testing.T, gen generation) (dir string) {
	t.Helper()
	sw := tpmtest.Start(t, gen.state)
	if gen.is20() {
		sw.Shutdown()
	}
	sw.Kill()
	return sw.Dir
}

// emulatorGround is started by the library, again and again.
func emulatorGround(t *testing.T, gen generation) *ground {
	dir, form := stopped(t, gen), "emulator:"
	if gen.is20() {
		form = "emulator2:"
	}
	t.Cleanup(func() { eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 }) })
	return &ground{form + dir, "unix", dir + "/sock", func() { killIn(t, dir, "swtpm") }}
}

// tcpGround is swtpm on a TCP port.
func tcpGround(t *testing.T, gen generation) *ground {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tcpTPM{t: t, gen: gen, dir: stopped(t, gen), address: free.Addr().String()}
	free.Close()
	t.Cleanup(func() { s.kill() })
	s.start()
	return &ground{"tcp:" + s.address, "tcp", s.address, func() { s.kill(); s.start() }}
}

type tcpTPM struct {
	t            *testing.T
	gen          generation
	dir, address string
	cmd          *exec.Cmd
}

func (s *tcpTPM) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// start starts it and waits until it takes connections.
func (s *tcpTPM) start() {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.address)
	args := []string{"socket", "--tpmstate", "dir=.", "--server", "type=tcp,bindaddr=" + host + ",port=" + port, "--flags", "not-need-init,startup-clear"}
	if s.gen.is20() {
		args = append(args, "--tpm2")
	}
	s.cmd = exec.Command("swtpm", args...)
	s.cmd.Dir, s.cmd.Stderr = s.dir, os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	g := &ground{network: "tcp", address: s.address}
	g.mustDial(s.t).Close()
}
