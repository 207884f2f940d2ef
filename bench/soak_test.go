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
	signers         = 16                    // goroutines
	clientProcesses = 2                     // processes that sign at a time, besides this one
	maxDowntime     = 50 * time.Millisecond // maximum time between the end and the start of the TPM
)

// A soak is one process that signs from many goroutines, while its TPM is killed and
// started again, and other processes use it.
type soak struct {
	*testing.T
	*testTPM
	files      []keyFile
	operations []*operation    // of the client processes
	ctx        context.Context // ends when the signatures are made, or after too many errors
	cancel     func()

	started, done  atomic.Int64 // signatures
	slowest        atomic.Int64 // duration of the slowest signature, in nanoseconds
	visits, killed atomic.Int64
	errors         atomic.Int64
}

// TestSoak is the soak test of make soak.
func TestSoak(t *testing.T) {
	if !*soaks {
		t.Skip("make soak runs it")
	}
	t.Run("tpm=1.2", func(t *testing.T) { soakOn(t, newTestTPM(t, tpmtest.WellKnown)) })
	t.Run("tpm=2.0", func(t *testing.T) { soakOn(t, newTestTPM(t, tpmtest.TPM20)) })
}

// soakOn runs the soak test and compares the resources before and after it.
func soakOn(t *testing.T, c *testTPM) {
	s := &soak{T: t, testTPM: c}
	s.ctx, s.cancel = context.WithCancel(t.Context())
	for key := range c.plain {
		s.files = append(s.files, c.plain[key], c.secret[key])
	}
	for name, kind := range kinds {
		if c.Is20() || kind.key == "rsa" && name != "sign-pss" {
			s.operations = append(s.operations, c.operation(t, name))
		}
	}
	before := s.resources()
	var left resources
	var took time.Duration
	check(t, useKeys(c.name(), s.files, func(keys []*tpmkey.Key) error {
		if err := s.checkIdle(keys); err != nil {
			return err
		}
		start := time.Now()
		s.run(keys)
		took, left = time.Since(start), s.resources()
		c.free(t) // what killed client processes have left
		return s.checkIdle(keys)
	}))
	after := s.resources()
	for deadline := time.Now().Add(3 * time.Second); !after.noMoreThan(before) && time.Now().Before(deadline); after = s.resources() {
		time.Sleep(10 * time.Millisecond) // let goroutines and connections end
	}
	s.report(before, left, after, took)
}

// run runs everything at the same time, and returns when it is over.
func (s *soak) run(keys []*tpmkey.Key) {
	var others sync.WaitGroup
	others.Add(2)
	go func() {
		defer others.Done()
		defer s.cancel()
		inParallel(signers, func(int) { s.signer(keys) })
	}()
	go func() {
		defer others.Done()
		inParallel(clientProcesses, func(int) { s.runVisits() })
	}()
	defer func() {
		s.cancel()
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
		fmt.Printf("%d of %d signatures; %d visits, %d killed\n", s.done.Load(), *signatures, s.visits.Load(), s.killed.Load())
	}
}

// wait waits. It returns false when the soak test is over.
func (s *soak) wait(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// restart kills the TPM and starts it again with its state. In half of the cases it sends
// TPM2_Shutdown to a TPM 2.0 before.
func (s *soak) restart() {
	if s.Is20() && rand.IntN(2) == 0 {
		tpm := s.Dial() // no other process can use the TPM until it is closed
		defer tpm.Close()
		check(s.T, tpm20.New(tpm).Shutdown())
	}
	s.Kill()
	time.Sleep(rand.N(maxDowntime))
	s.Restart()
}

// fail records an error. Too many errors end the soak test.
func (s *soak) fail(err any) {
	if n := s.errors.Add(1); n <= 20 {
		s.Errorf("error: %v", err)
	} else if n == 1000 {
		s.cancel()
	}
}

// signer makes signatures until there are enough.
func (s *soak) signer(keys []*tpmkey.Key) {
	for s.started.Add(1) <= *signatures {
		for s.ctx.Err() == nil {
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
			time.Sleep(10 * time.Millisecond) // no busy loop
		}
	}
}

// runVisits runs child processes one after the other. Each opens the TPM, loads two keys,
// uses them and closes the TPM. One of three is killed on the way; another process frees
// what it left in the TPM.
func (s *soak) runVisits() {
	for s.wait(rand.N(2 * time.Second)) {
		visit := &task{Role: "sign", TPM: s.name(), For: rand.N(100 * time.Millisecond)}
		for range 2 {
			op := s.operations[rand.IntN(len(s.operations))]
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
			s.visits.Add(1)
		case life < time.Second && !c.ProcessState.Exited():
			s.killed.Add(1)
		default:
			s.fail(fmt.Errorf("runVisits: %w", err))
		}
	}
}

// signAndVerify signs a random digest.
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

// Resources are what a program may leave behind in the TPM and in its own process.
type resources struct {
	keys, sessions    int
	files, goroutines int
	heap              uint64 // kB
}

// resources counts the resources without the library. Nothing else may use the TPM.
func (s *soak) resources() (t resources) {
	tpm := s.Dial()
	defer tpm.Close()
	if s.Is20() {
		count := func(first uint32) int {
			handles, err := tpmtest.Handles20(tpm, first)
			check(s.T, err)
			return len(handles)
		}
		t.keys, t.sessions = count(0x80000000), count(0x02000000)+count(0x03000000) // loaded and saved
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

// noMoreThan reports whether there is no more than before.
func (t resources) noMoreThan(before resources) bool {
	return t.keys == before.keys && t.sessions == before.sessions &&
		t.files <= before.files && t.goroutines <= before.goroutines
}

// checkIdle uses each key, and checks that nothing is loaded afterwards.
func (s *soak) checkIdle(keys []*tpmkey.Key) error {
	for _, k := range keys {
		if err := signAndVerify(k); err != nil {
			return err
		}
	}
	if now := s.resources(); now.keys+now.sessions > 0 {
		return fmt.Errorf("%d keys and %d sessions of an idle program are loaded", now.keys, now.sessions)
	}
	return nil
}

// maxLeftPerKill is how many keys or sessions a killed process can leave: those that one
// turn loads, two keys and a parent.
const maxLeftPerKill = 3

// report prints the results as a table. The test fails if something is wrong.
func (s *soak) report(before, left, after resources, took time.Duration) {
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
		*restarts, s.visits.Load(), killed, before.keys, after.keys, before.sessions, after.sessions, before.files, after.files,
		before.goroutines, after.goroutines, before.heap, after.heap, left.keys, left.sessions)
	if done < *signatures {
		s.Errorf("only %d of %d signatures", done, *signatures)
	}
	if n := s.errors.Load(); n > 0 {
		s.Errorf("%d errors", n)
	}
	if int64(max(left.keys-before.keys, left.sessions-before.sessions)) > maxLeftPerKill*killed {
		s.Errorf("%d keys and %d sessions were left in the TPM, with %d visitors killed", left.keys, left.sessions, killed)
	}
	if !after.noMoreThan(before) {
		s.Error("not everything is as it was")
	}
}
