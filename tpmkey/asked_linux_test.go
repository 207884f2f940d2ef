package tpmkey_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// After a restart many operations need the secret at once; one question is enough.
func TestAskedOnceForAll(t *testing.T) {
	t.Parallel()
	inBoth(t, testAskedOnceForAll)
}

func testAskedOnceForAll(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	tpm := openName(t, sw.Socket)
	srk, key := &asker{answer: tutorialSRK()}, &asker{answer: motdepasse()}
	k := loadWith(t, tpm, gen.secret, srk.secret(), key.secret())
	mustSign(t, k)
	for round := range 3 {
		sw.Restart()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := signs(k, round, i); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if s, n := srk.n.Load(), key.n.Load(); int(s) != round+2 || int(n) != round+2 {
			t.Errorf("round %d: asked %d and %d times", round, s, n)
		}
	}
}

// An operation that comes while a secret is asked for does not ask for it again.
func TestAskedOnceWhileAsking(t *testing.T) {
	t.Parallel()
	inBoth(t, testAskedOnceWhileAsking)
}

func testAskedOnceWhileAsking(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	tpm := openName(t, sw.Socket)
	srk, key := &asker{answer: tutorialSRK()}, &asker{answer: motdepasse()}
	k := loadWith(t, tpm, gen.secret, srk.secret(), key.secret())
	mustSign(t, k)
	sw.Restart()
	var later <-chan error
	key.during = func() {
		if later == nil {
			later = inBackground(func() error { return signs(k, "later") })
			time.Sleep(50 * time.Millisecond) // for the other to come, and to ask
		}
	}
	mustSign(t, k, "first")
	if err := <-later; err != nil {
		t.Error(err)
	}
	if s, n := srk.n.Load(), key.n.Load(); s != 2 || n != 2 {
		t.Errorf("asked %d and %d times, not twice each", s, n)
	}
}

// An operation can give up while it waits for the answer to another one's question.
func TestGivesUpWaitingForAnAnswer(t *testing.T) { inBoth(t, testGivesUpWaitingForAnAnswer) }

func testGivesUpWaitingForAnAnswer(t *testing.T, gen generation) {
	tpm := openState(t, gen.state)
	asking, answer := make(chan struct{}), make(chan struct{})
	k := loadWith(t, tpm, gen.secret, tutorialSRK(), tpmkey.AskSecret(func() (tpmkey.Secret, error) {
		close(asking)
		<-answer
		return motdepasse(), nil
	}))
	first := inBackground(func() error { return signs(k, "first") })
	<-asking
	other := loadFixture(t, tpm, gen.secret)
	mustSign(t, other) // nobody else's keys wait
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	second := inBackground(func() error { return signs(k.WithContext(ctx), "second") })
	select {
	case err := <-second:
		tpmtest.WantError(t, err, context.DeadlineExceeded)
	case <-time.After(20 * time.Second):
		t.Error("it waits for the answer")
	}
	close(answer)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A wrong answer costs one try, however many wait for it.
func TestWrongAnswerCostsOneTry(t *testing.T) {
	t.Parallel()
	inBoth(t, testWrongAnswerCostsOneTry)
}

func testWrongAnswerCostsOneTry(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	tpm := openName(t, sw.Socket)
	a := &asker{answer: tpmkey.Password([]byte("wrong"))}
	k := loadWith(t, tpm, gen.counted, tutorialSRK(), a.secret())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := signs(k, i); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if n := tries(t, tpm); n != 1 || a.n.Load() != 1 {
		t.Errorf("asked %d times, %d tries spent", a.n.Load(), n)
	}
	sw.Restart()
	tpmtest.WantError(t, signs(k), tpmkey.ErrWrongKeySecret, "not tried again")
	if n := a.n.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// After a restart a wrong answer costs one try, too.
func TestWrongAnswerAfterARestart(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	tpm := openName(t, sw.Socket)
	k, a := askedKey(t, tpm)
	a.answer = tpmkey.Password([]byte("wrong"))
	sw.Restart()
	tpmtest.WantError(t, signs(k), tpmkey.ErrWrongKeySecret)
	tpmtest.WantError(t, signs(k), tpmkey.ErrWrongKeySecret)
	if n := tries(t, tpm); n != 1 || a.n.Load() != 2 {
		t.Errorf("asked %d times, %d tries spent", a.n.Load(), n)
	}
}

// A TPM that is locked out is not told a secret, nobody is asked for one, and the
// error says how long it lasts.
func TestLockoutIsSeenFirst(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	p := startCounted(t, generations[0])
	tpm := openName(t, p.Name)
	a := &asker{answer: motdepasse()}
	waiting := loadWith(t, tpm, "auth", tutorialSRK(), a.secret())
	given := loadFixture(t, tpm, "wrapped-auth")
	for range 5 { // the lock lasts a second at first, and twice as long each time
		lockOut(t, tpm)
		p.Arm(countOnly, tpmtest.Fault{})
		first, second := signs(waiting), signs(given)
		if second == nil {
			a.n.Store(0)
			continue // too late
		}
		tpmtest.WantError(t, first, tpmkey.ErrLockedOut, "no secret was tried", "wait ")
		tpmtest.WantError(t, second, tpmkey.ErrLockedOut, "no secret was tried", "wait ")
		for _, e := range p.Exchanges() {
			switch e.Ordinal {
			case ordGetCap, ordSaveContext, ordLoadContext, ordFlush: // keys may come and go
			default:
				t.Errorf("sent %#x", e.Ordinal)
			}
		}
		if a.n.Load() != 0 {
			t.Error("asked for a secret that cannot be used")
		}
		eventually(t, "the lock ends", func() bool { return signs(given) == nil })
		mustSign(t, waiting)
		return
	}
	t.Error("this machine is too slow: every lock ended before it was met")
}

// lockOut spends tries until the TPM is locked.
func lockOut(t *testing.T, tpm *tpmkey.TPM) {
	t.Helper()
	file := parseFixture(t, "auth")
	for range 12 {
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: tpmkey.Password([]byte("wrong"))})
		if err == nil {
			err = signs(k)
			k.Close()
		}
		if errors.Is(err, tpmkey.ErrLockedOut) {
			return
		}
		if !errors.Is(err, tpmkey.ErrWrongKeySecret) {
			t.Fatal(err)
		}
	}
	t.Fatal("it does not lock")
}
