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

// The TPM is closed, by several at once, while many operations are under way and
// wait: each gives a right result or ErrClosed, and nothing stays loaded.
func TestCloseUnderLoad(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testCloseUnderLoad)
}

func testCloseUnderLoad(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	for range 4 {
		tpm, err := tpmkey.Open(t.Context(), sw.Socket)
		if err != nil {
			t.Fatal(err)
		}
		secret := asked()
		keys := []*tpmkey.Key{loadWith(t, tpm, gen.secret, tutorialSRK(), motdepasse()), loadWith(t, tpm, gen.secret, tutorialSRK(), secret)}
		var wg, begun sync.WaitGroup
		for i := range 12 {
			wg.Add(1)
			begun.Add(1)
			go func() {
				defer wg.Done()
				k := keys[i%2]
				if i%3 == 0 {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					k = k.WithContext(ctx)
				}
				for n := 0; ; n++ {
					err := signs(k, i, n)
					if n == 0 {
						begun.Done()
					}
					if errors.Is(err, tpmkey.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		begun.Wait()
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := tpm.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := keys[0].Close(); err != nil {
				t.Error(err)
			}
		}()
		wg.Wait()
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
		wantEmpty(t, sw.Socket)
	}
}

// soon fails the test where something takes nearly as long as a TPM that is away
// is waited for.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("%s took %v", what, d)
	}
}

// Close does not wait for a TPM that is away.
func TestCloseWhileAway(t *testing.T) { inBoth(t, testCloseWhileAway) }

func testCloseWhileAway(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	tpm, err := tpmkey.Open(t.Context(), sw.Socket)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, loadWith(t, tpm, gen.secret, tutorialSRK(), motdepasse()))
	sw.Kill()
	soon(t, "Close", func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Close does not wait for a TPM that is away, even if operations do. It ends them.
func TestCloseWhileOthersWaitForTheTPM(t *testing.T) { inBoth(t, testCloseWhileOthersWaitForTheTPM) }

func testCloseWhileOthersWaitForTheTPM(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	tpm, err := tpmkey.Open(t.Context(), sw.Socket)
	if err != nil {
		t.Fatal(err)
	}
	k := loadWith(t, tpm, gen.secret, tutorialSRK(), motdepasse())
	mustSign(t, k)
	sw.Kill()
	var waiting []<-chan error
	for range 3 {
		waiting = append(waiting, inBackground(func() error { return signs(k) }))
	}
	time.Sleep(50 * time.Millisecond) // for the first to wait
	soon(t, "Close", func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, w := range waiting {
		if err := <-w; !errors.Is(err, tpmkey.ErrClosed) && !errors.Is(err, tpmkey.ErrGone) {
			t.Error(err)
		}
	}
}

// Closing a key leaves the caller's secrets as they are.
func TestCloseLeavesTheCallersSecret(t *testing.T) {
	t.Parallel()
	inBoth(t, testCloseLeavesTheCallersSecret)
}

func testCloseLeavesTheCallersSecret(t *testing.T, gen generation) {
	tpm := openState(t, gen.state)
	for _, keep := range []bool{false, true} {
		secret, srk := motdepasse(), tutorialSRK()
		if keep {
			secret = secret.Keep()
		}
		answer := tpmkey.AskSecret(func() (tpmkey.Secret, error) { return secret, nil })
		for _, s := range []tpmkey.Secret{secret, answer, answer.Keep(), secret} {
			k := loadWith(t, tpm, gen.secret, srk, s)
			mustSign(t, k)
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		}
		if !secret.Equal(motdepasse()) || !srk.Equal(tutorialSRK()) {
			t.Error("the caller's secret was changed")
		}
	}
}
