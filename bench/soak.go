//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"sync/atomic"
	"time"

	"maclef/tpmkey"
)

// soakSettings are those of the command line.
type soakSettings struct {
	out, progress io.Writer

	signatures int64
	goroutines int
	restarts   int
	visitors   int           // at a time
	limit      time.Duration // of the whole
	down       time.Duration // how long the TPM is gone at most
}

// A soak is one process that signs from many goroutines while its TPM is killed and
// started again, and other processes come and go.
type soak struct {
	*soakSettings
	tally *tally

	tpm   *softTPM
	files []keyFile

	begun, done atomic.Int64 // signatures
	restarted   atomic.Int64
	visited     atomic.Int64 // visits that ended by themselves
	killed      atomic.Int64 // visits that were killed
	slowest     atomic.Int64 // nanoseconds that a signature took
	stop        chan struct{}
}

func runSoak(args []string) error {
	s := &soakSettings{out: os.Stdout, progress: os.Stderr}
	flags := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	flags.Int64Var(&s.signatures, "n", 100_000, "make `N` signatures")
	flags.IntVar(&s.goroutines, "goroutines", 16, "from `N` goroutines")
	flags.IntVar(&s.restarts, "restarts", 20, "kill and start the TPM `N` times")
	flags.IntVar(&s.visitors, "visitors", 2, "other processes, up to `N` at a time")
	flags.DurationVar(&s.limit, "for", 10*time.Minute, "give up after this `TIME`")
	flags.DurationVar(&s.down, "down", 50*time.Millisecond, "let the TPM be gone for up to this `TIME` when it is restarted")
	which := flags.String("tpm", "both", "soak this generation of TPM: `1.2`, 2.0 or both in turn")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || s.signatures < 1 || s.goroutines < 1 || s.restarts < 0 || s.visitors < 0 || s.down <= 0 {
		return errors.New("usage: bench soak [flags]; bench soak -h lists them")
	}
	all, err := generations(*which)
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range all {
		one := &soak{soakSettings: s, tally: new(tally), stop: make(chan struct{})}
		if err := one.on(g); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g, err))
		}
	}
	return errors.Join(errs...)
}

// on soaks a TPM of one generation.
func (s *soak) on(g generation) (err error) {
	if s.tpm, err = newSoftTPM(g); err != nil {
		return err
	}
	defer s.tpm.remove()
	defer onInterrupt(s.tpm.remove)()
	if err := s.makeKeys(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	fmt.Fprintf(s.out, "\n%s:\n\n", g)
	return s.run()
}

// makeKeys makes key files, of each key one without a secret and one with it.
func (s *soak) makeKeys() error {
	m, err := s.tpm.generation.newMint(s.tpm)
	if err != nil {
		return err
	}
	keys, err := s.tpm.generation.soakKeys()
	if err != nil {
		return err
	}
	for i, priv := range keys {
		for _, secret := range []string{"", password} {
			f, err := m.make(fmt.Sprintf("key%d%s", i, secret), priv, secret)
			if err != nil {
				return err
			}
			s.files = append(s.files, f)
		}
	}
	return s.tpm.direct(s.tpm.generation.harden)
}

// run soaks, and compares what is left with what there was.
func (s *soak) run() error {
	before, err := s.traces()
	if err != nil {
		return err
	}
	var took time.Duration
	var left traces
	err = useKeys(s.tpm.name(), s.files, func(keys []*tpmkey.Key) error {
		if err := s.idle(keys); err != nil {
			return err
		}
		start := time.Now()
		err := s.all(keys)
		took = time.Since(start)
		if err == nil {
			left, err = s.traces()
		}
		return errors.Join(err, s.freeLeftovers(), s.idle(keys))
	})
	s.tally.count(err) // of opening, loading and closing, too
	after, err := s.settled(before)
	if err != nil {
		return err
	}
	return s.judge(before, left, after, took)
}

// all has everything happen at once, and returns when the signatures are made or
// time is up.
func (s *soak) all(keys []*tpmkey.Key) error {
	var signers, others crew
	for range s.goroutines {
		signers.run(func() { s.signer(keys) })
	}
	others.run(s.restarter)
	others.run(s.reporter)
	for range s.visitors {
		others.run(s.visitor)
	}
	signed := make(chan struct{})
	go func() {
		signers.Wait()
		close(signed)
	}()
	var err error
	select {
	case <-signed:
	case <-time.After(s.limit):
		err = fmt.Errorf("time is up after %v", s.limit)
	}
	close(s.stop)
	others.Wait()
	select {
	case <-signed:
	case <-time.After(time.Minute):
		pprof.Lookup("goroutine").WriteTo(s.progress, 1)
		s.tpm.remove()
		fmt.Fprintln(s.progress, "bench: error: signatures hang")
		os.Exit(1)
	}
	return err
}

// tooMany errors end the soak: it has failed.
const tooMany = 1000

// signer makes signatures until there are enough, and verifies each.
func (s *soak) signer(keys []*tpmkey.Key) {
	for s.begun.Add(1) <= s.signatures {
		for made := false; !made; {
			if s.over() {
				return
			}
			i := rand.IntN(len(keys))
			made = s.signOnce(keys[i])
		}
		s.done.Add(1)
	}
}

// over reports that there is no use in going on.
func (s *soak) over() bool {
	select {
	case <-s.stop:
		return true
	default:
		return s.tally.total.Load() >= tooMany
	}
}

// signOnce reports whether a signature was made, and counts the error if not.
func (s *soak) signOnce(key *tpmkey.Key) bool {
	start := time.Now()
	err := signAndVerify(key)
	took := int64(time.Since(start))
	for old := s.slowest.Load(); took > old && !s.slowest.CompareAndSwap(old, took); {
		old = s.slowest.Load()
	}
	if err != nil {
		s.tally.count(err)
		time.Sleep(10 * time.Millisecond) // nobody asks at once again for long
	}
	return err == nil
}

// restarter kills the TPM at random moments of the soak, and starts it again over
// its state.
func (s *soak) restarter() {
	moments := make([]int64, s.restarts)
	for i := range moments {
		moments[i] = rand.Int64N(s.signatures)
	}
	slices.Sort(moments)
	for _, moment := range moments {
		for s.done.Load() < moment {
			if !s.wait(time.Millisecond) {
				return
			}
		}
		if err := s.killTPM(); err != nil {
			s.tally.count(fmt.Errorf("prepare the TPM for a restart: %w", err))
			return
		}
		time.Sleep(rand.N(s.down))
		if err := s.tpm.start(); err != nil {
			s.tally.count(fmt.Errorf("restart the TPM: %w", err))
			return
		}
		s.restarted.Add(1)
	}
}

// killTPM ends the TPM, which half of the time has been told so before, where its
// generation can be told.
func (s *soak) killTPM() error {
	if rand.IntN(2) == 0 {
		s.tpm.kill()
		return nil
	}
	return s.tpm.direct(func(d *direct) error {
		err := s.tpm.generation.shutdown(d)
		s.tpm.kill() // while nobody else can use it
		return err
	})
}

// reporter tells every ten seconds how far the soak is.
func (s *soak) reporter() {
	for start := time.Now(); s.wait(10 * time.Second); {
		done := s.done.Load()
		fmt.Fprintf(s.progress, "soak: %d of %d signatures, %.0f a second; %d restarts, %d visits, %d killed; %d errors\n",
			done, s.signatures, float64(done)/time.Since(start).Seconds(),
			s.restarted.Load(), s.visited.Load(), s.killed.Load(), s.tally.total.Load())
	}
}

// wait waits, and reports false when the soak ends.
func (s *soak) wait(d time.Duration) bool {
	select {
	case <-s.stop:
		return false
	case <-time.After(d):
		return true
	}
}
