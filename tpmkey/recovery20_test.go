package tpmkey_test

import (
	"errors"
	"testing"

	"maclef/internal/chip"
	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// kinds20 are keys that recover in different ways.
var kinds20 = []struct{ name, file string }{
	{"without a secret", "pv-p256"}, {"with one", "e2-p256-auth"}, {"to be counted", "pv-rsa-auth"},
	{"by a policy", "e2-p256-pcr"}, {"imported", "e2-import-ec"}, {"persistent parent", "pv-p256-81000001"},
}

// losses20 are ways in which a TPM 2.0 loses what is loaded, between two operations.
var losses20 = map[string]func(*testing.T, *tpmtest.SWTPM){
	"restart":          func(t *testing.T, sw *tpmtest.SWTPM) { sw.Restart() },
	"keys flushed":     func(t *testing.T, sw *tpmtest.SWTPM) { flush20(t, sw, 0x80000000) },
	"sessions flushed": func(t *testing.T, sw *tpmtest.SWTPM) { flush20(t, sw, 0x02000000) },
	"both flushed":     func(t *testing.T, sw *tpmtest.SWTPM) { flush20(t, sw, 0x80000000); flush20(t, sw, 0x02000000) },
}

// flush20 flushes everything of a kind from outside.
func flush20(t *testing.T, sw *tpmtest.SWTPM, kind uint32) {
	t.Helper()
	tpm := sw.Dial()
	defer tpm.Close()
	for h := kind; h < kind+3; h++ {
		cmd := []byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
		if _, err := tpm.Send(cmd); err != nil {
			t.Fatal(err)
		}
	}
}

// Keys of all kinds work again after each loss.
func TestRecovers20(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	for loss, lose := range losses20 {
		t.Run(loss, func(t *testing.T) {
			sw := tpmtest.Start(t, tpmtest.Keys20)
			sw.Send(tpmtest.LockoutParameters(1000, 1000, 1000)) // restarts without a warning count
			tpm := openName(t, sw.Socket)
			var keys []*tpmkey.Key
			for _, kind := range kinds20 {
				for _, secret := range []tpmkey.Secret{motdepasse(), tpmkey.AskSecret(func() (tpmkey.Secret, error) { return motdepasse(), nil })} {
					if !fixture20(t, kind.file).NeedsSecret() {
						secret = tpmkey.Secret{}
					}
					keys = append(keys, loadWith(t, tpm, kind.file, tpmkey.Secret{}, secret))
				}
			}
			for round := range 3 {
				for i, k := range keys {
					if err := signs(k); err != nil {
						t.Errorf("%s, round %d: %v", kinds20[i/2].name, round, err)
					}
					if round == 1 {
						lose(t, sw)
					}
				}
			}
		})
	}
}

// A wrong secret costs exactly one try, and is not tried again.
func TestWrongSecret20(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pv-rsa-auth", "e2-p256-auth"} {
		tpm := openState(t, tpmtest.Keys20)
		before, err := tpm.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		k := loadWith(t, tpm, name, tpmkey.Secret{}, tpmkey.Password([]byte("faux")))
		for range 3 {
			if err := signs(k); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
				t.Errorf("%s: %v", name, err)
			}
		}
		after, err := tpm.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if pubarea.TPMT(fixture20(t, name).Public).ObjectAttributes.NoDA {
			want = 0
		}
		if n := after.Lockout.Tries - before.Lockout.Tries; n != want {
			t.Errorf("%s: %d tries used, want %d", name, n, want)
		}
	}
}

// In lockout no secret is tried; keys that are not subject to it work.
func TestLockout20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.LockedOut20)
	k := loadWith(t, tpm, "pv-rsa-auth", tpmkey.Secret{}, never(t))
	tpmtest.WantError(t, signs(k), tpmkey.ErrLockedOut, "the lockout secret ends it")
	k = loadWith(t, tpm, "e2-p256-auth", tpmkey.Secret{}, motdepasse())
	if err := signs(k); err != nil {
		t.Error(err)
	}
	if changed, err := tpm.ResetLockout(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown())); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
	k = loadWith(t, tpm, "pv-rsa-auth", tpmkey.Secret{}, motdepasse())
	if err := signs(k); err != nil {
		t.Error(err)
	}
}

// Secrets of the hierarchies are used, and asked for, where they are needed only.
func TestOwned20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Owned20)
	_, err := tpm.Load(t.Context(), fixture20(t, "pv-p256"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret)
	asked := 0
	k, err := tpm.Load(t.Context(), fixture20(t, "pv-p256"), &tpmkey.LoadOptions{ParentAuth: tpmkey.AskSecret(func() (tpmkey.Secret, error) {
		asked++
		return tpmkey.Password([]byte("proprio")), nil
	})})
	if err != nil || asked != 1 {
		t.Fatal(asked, err)
	}
	if err := signs(k); err != nil {
		t.Error(err)
	}
	if _, err = tpm.Clear(t.Context(), tpmkey.OwnerSecret(tpmkey.Password([]byte("verrou"))), nil); err != nil {
		t.Error(err)
	}
	_, err = tpm.Load(t.Context(), fixture20(t, "pv-p256"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "another TPM")
	if made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256}); err != nil {
		t.Error(err)
	} else {
		useAll20(t, tpm, made, tpmkey.Secret{})
	}
}

// A key whose handle is another's by now is not taken for it.
func TestHandlesChangeHands20(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	tpm := openName(t, sw.Socket)
	var keys []*tpmkey.Key
	for _, name := range []string{"pv-p256", "e2-rsa", "e2-p384"} {
		keys = append(keys, loadWith(t, tpm, name, tpmkey.Secret{}, tpmkey.Secret{}))
	}
	for round := range 6 {
		flush20(t, sw, 0x80000000)
		for i := range keys {
			if err := signs(keys[(i+round)%len(keys)]); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
}

// A TPM in failure mode says so.
func TestFailing20(t *testing.T) {
	t.Parallel()
	_, err := tpmkey.Open(t.Context(), tpmtest.Start(t, tpmtest.Failing20).Socket)
	tpmtest.WantError(t, err, chip.ErrFailed, "restart")
}

// After a night in which the TPM lost everything, and gave the handles of one program's
// keys and sessions to another's, both go on; a right secret costs one try at most, and
// a wrong one that is used then costs just one.
func TestHandlesOfOthers20(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	first, second := openName(t, sw.Socket), openName(t, sw.Socket)
	load := func(tpm *tpmkey.TPM, secret string) *tpmkey.Key {
		return loadWith(t, tpm, "pv-rsa-auth", tpmkey.Secret{}, tpmkey.Password([]byte(secret)))
	}
	ours, theirs := load(first, "motdepasse"), load(second, "motdepasse")
	for range 2 {
		for _, k := range []*tpmkey.Key{theirs, ours} {
			if err := signs(k); err != nil {
				t.Error(err)
			}
		}
		flush20(t, sw, 0x80000000)
		flush20(t, sw, 0x02000000)
	}
	sw.Send(tpmtest.LockoutReset())
	wrong := load(first, "faux")
	flush20(t, sw, 0x80000000)
	flush20(t, sw, 0x02000000)
	if err := signs(theirs); err != nil {
		t.Error(err)
	}
	tpmtest.WantError(t, signs(wrong), tpmkey.ErrWrongKeySecret)
	if s, err := first.Status(t.Context()); err != nil || s.Lockout.Tries != 1 {
		t.Errorf("%+v, %v", s.Lockout, err)
	}
}
