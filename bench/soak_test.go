//go:build linux

package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

const (
	signers  = 16                    // goroutines
	visitors = 2                     // other processes at a time
	down     = 50 * time.Millisecond // for which the TPM is gone at most, when it is restarted
)

// A soak is one process that signs from many goroutines while its TPM is killed and
// started again, and other processes come and go.
type soak struct {
	*testing.T
	*chip
	files  []keyFile
	visits []*operation    // of visitors
	over   context.Context // ends when the signatures are made, or too much went wrong
	end    func()

	begun, done     atomic.Int64 // signatures
	slowest         atomic.Int64 // nanoseconds that a signature took
	visited, killed atomic.Int64
	errors          atomic.Int64
}

// TestSoak is what make soak runs.
func TestSoak(t *testing.T) {
	if !*soaks {
		t.Skip("make soak runs it")
	}
	t.Run("tpm=1.2", func(t *testing.T) { soakOn(t, newChip(t, tpmtest.WellKnown)) })
	t.Run("tpm=2.0", func(t *testing.T) { soakOn(t, newChip(t, tpmtest.TPM20)) })
}

// soakOn soaks, and compares what is left with what there was.
func soakOn(t *testing.T, c *chip) {
	s := &soak{T: t, chip: c}
	s.over, s.end = context.WithCancel(t.Context())
	for key := range c.plain {
		s.files = append(s.files, c.plain[key], c.secret[key])
	}
	for name, kind := range kinds {
		if c.Is20() || kind.key == "rsa" && name != "sign-pss" {
			s.visits = append(s.visits, c.operation(t, name))
		}
	}
	before := s.traces()
	var left traces
	var took time.Duration
	check(t, useKeys(c.name(), s.files, func(keys []*tpmkey.Key) error {
		if err := s.idle(keys); err != nil {
			return err
		}
		start := time.Now()
		s.all(keys)
		took, left = time.Since(start), s.traces()
		c.free(t) // what visitors that were killed have left
		return s.idle(keys)
	}))
	after := s.traces()
	for deadline := time.Now().Add(3 * time.Second); !after.like(before) && time.Now().Before(deadline); after = s.traces() {
		time.Sleep(10 * time.Millisecond) // for goroutines and connections to end
	}
	s.judge(before, left, after, took)
}

// all has everything happen at once, and returns when it is over.
func (s *soak) all(keys []*tpmkey.Key) {
	var others sync.WaitGroup
	others.Add(2)
	go func() {
		defer others.Done()
		defer s.end()
		inParallel(signers, func(int) { s.signer(keys) })
	}()
	go func() {
		defer others.Done()
		inParallel(visitors, func(int) { s.visitor() })
	}()
	defer func() {
		s.end()
		others.Wait()
	}()
	moments := make([]int64, *restarts)
	for i := range moments {
		moments[i] = rand.Int64N(*signatures)
	}
	slices.Sort(moments)
	for _, moment := range moments {
		for s.done.Load() < moment {
			if !s.wait(time.Millisecond) {
				return
			}
		}
		s.restart()
	}
	for s.wait(10 * time.Second) {
		fmt.Printf("%d of %d signatures; %d visits, %d killed\n", s.done.Load(), *signatures, s.visited.Load(), s.killed.Load())
	}
}

// wait waits, and reports false when it is over.
func (s *soak) wait(d time.Duration) bool {
	select {
	case <-s.over.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// restart kills the TPM and starts it again over its state. A TPM 2.0 half of the time
// has been told so before.
func (s *soak) restart() {
	if s.Is20() && rand.IntN(2) == 0 {
		tpm := s.Dial() // so that nobody else can use it after that
		defer tpm.Close()
		check(s.T, tpm20.New(tpm).Shutdown())
	}
	s.Kill()
	time.Sleep(rand.N(down))
	s.Restart()
}

// fail is for errors; too many end the soak.
func (s *soak) fail(err any) {
	if n := s.errors.Add(1); n <= 20 {
		s.Errorf("error: %v", err)
	} else if n == 1000 {
		s.end()
	}
}

// signer makes signatures until there are enough.
func (s *soak) signer(keys []*tpmkey.Key) {
	for s.begun.Add(1) <= *signatures {
		for s.over.Err() == nil {
			start := time.Now()
			err := signAndVerify(keys[rand.IntN(len(keys))])
			took := int64(time.Since(start))
			for old := s.slowest.Load(); took > old && !s.slowest.CompareAndSwap(old, took); {
				old = s.slowest.Load()
			}
			if err == nil {
				s.done.Add(1)
				break
			}
			s.fail(err)
			time.Sleep(10 * time.Millisecond) // nobody asks at once again for long
		}
	}
}

// visitor has other processes come and go: each opens the TPM, loads two keys, uses them,
// and closes; one of three is killed on the way. What that one leaves in the TPM, whoever
// needs the place has to free.
func (s *soak) visitor() {
	for s.wait(rand.N(2 * time.Second)) {
		visit := &task{Role: "sign", TPM: s.name(), For: rand.N(100 * time.Millisecond)}
		for range 2 {
			op := s.visits[rand.IntN(len(s.visits))]
			file := op.plain
			if rand.IntN(2) == 0 {
				file = op.secret
			}
			visit.Keys, visit.Operations = append(visit.Keys, file), append(visit.Operations, op.name)
		}
		c, err := startChild(visit)
		if err != nil {
			s.fail(err)
			continue
		}
		c.in.Close() // begins as soon as it is ready
		life := 2 * time.Minute
		if rand.IntN(3) == 0 {
			life = rand.N(150 * time.Millisecond)
		}
		timer := time.AfterFunc(life, func() { c.Process.Kill() })
		err = c.read(new(bool))
		if err == nil {
			_, err = c.result()
		}
		switch timer.Stop(); {
		case err == nil:
			s.visited.Add(1)
		case life < time.Second && !c.ProcessState.Exited():
			s.killed.Add(1)
		default:
			s.fail(fmt.Errorf("visitor: %w", err))
		}
	}
}

// signAndVerify signs a digest that nobody has signed before.
func signAndVerify(k *tpmkey.Key) error {
	digest := sha256.Sum256([]byte(cryptorand.Text()))
	opts := signerOpts("sign-pkcs1")
	public, isRSA := k.Public().(*rsa.PublicKey)
	if _, tss2 := k.File().(*blob.TSS2); tss2 && isRSA && rand.IntN(2) == 0 {
		opts = signerOpts("sign-pss")
	}
	sig, err := k.Sign(nil, digest[:], opts)
	if err != nil {
		return err
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		return rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, pss)
	}
	if isRSA {
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig)
	}
	if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
		return errWrongResult
	}
	return nil
}

// Traces are what a program may leave behind: in the TPM, and in its own process.
type traces struct {
	keys, sessions    int
	files, goroutines int
	heap              uint64 // kB
}

// traces looks, past the library. Nobody uses the TPM.
func (s *soak) traces() (t traces) {
	tpm := s.Dial()
	defer tpm.Close()
	if s.Is20() {
		count := func(first uint32) int {
			handles, err := tpmtest.Handles20(tpm, first)
			check(s.T, err)
			return len(handles)
		}
		t.keys, t.sessions = count(0x80000000), count(0x02000000)+count(0x03000000) // that were saved, too
	} else {
		conn := tpm12.New(tpm)
		keys, keysErr := conn.LoadedKeys()
		sessions, sessionsErr := conn.Sessions()
		check(s.T, errors.Join(keysErr, sessionsErr))
		t.keys, t.sessions = len(keys), len(sessions)
	}
	open, err := os.ReadDir("/proc/self/fd")
	check(s.T, err)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.files, t.goroutines, t.heap = len(open), runtime.NumGoroutine(), memory.HeapAlloc/1024
	return t
}

// like reports that there is no more than before.
func (t traces) like(before traces) bool {
	return t.keys == before.keys && t.sessions == before.sessions &&
		t.files <= before.files && t.goroutines <= before.goroutines
}

// idle uses each key, and sees that nothing is loaded when this program does nothing with
// the TPM any more.
func (s *soak) idle(keys []*tpmkey.Key) error {
	for _, k := range keys {
		if err := signAndVerify(k); err != nil {
			return err
		}
	}
	if now := s.traces(); now.keys+now.sessions > 0 {
		return fmt.Errorf("%d keys and %d sessions of an idle program are loaded", now.keys, now.sessions)
	}
	return nil
}

// leftByOne is how many keys, or sessions, a killed visitor leaves at most: what a turn
// of its has loaded, two keys and what is to be a parent.
const leftByOne = 3

// judge prints the table, and fails if anything is not as it should be.
func (s *soak) judge(before, left, after traces, took time.Duration) {
	done, killed := s.done.Load(), s.killed.Load()
	fmt.Printf(`
| %s | |
|---|--:|
| signatures, each verified | %d |
| goroutines | %d |
| signatures a second | %.0f |
| slowest signature | %v |
| restarts of the TPM | %d |
| visits of other processes | %d |
| visitors killed | %d |
| keys in the TPM before, after | %d, %d |
| sessions in the TPM before, after | %d, %d |
| file descriptors before, after | %d, %d |
| goroutines before, after | %d, %d |
| kB of memory in use before, after | %d, %d |
| left at the end by killed visitors: keys, sessions | %d, %d |
`, s.Name(), done, signers, float64(done)/took.Seconds(), time.Duration(s.slowest.Load()).Round(time.Millisecond),
		*restarts, s.visited.Load(), killed, before.keys, after.keys, before.sessions, after.sessions, before.files, after.files,
		before.goroutines, after.goroutines, before.heap, after.heap, left.keys, left.sessions)
	if done < *signatures {
		s.Errorf("only %d of %d signatures", done, *signatures)
	}
	if n := s.errors.Load(); n > 0 {
		s.Errorf("%d errors", n)
	}
	if int64(max(left.keys-before.keys, left.sessions-before.sessions)) > leftByOne*killed {
		s.Errorf("%d keys and %d sessions were left in the TPM, with %d visitors killed", left.keys, left.sessions, killed)
	}
	if !after.like(before) {
		s.Error("not everything is as it was")
	}
}
