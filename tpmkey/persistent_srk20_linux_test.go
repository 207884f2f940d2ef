package tpmkey_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A key of the primary that the TPM keeps at 0x81000001 works without that being made,
// also where the owner's secret is not known.
func TestPersistentSRK(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state     tpmtest.State
		primaries int
	}{
		"it fits": {tpmtest.Kept20, 0}, "and the owner has a secret": {tpmtest.KeptOwned20, 0},
		"it has a secret": {tpmtest.KeptSecret20, 1}, "of another template": {tpmtest.KeptRSA20, 1}, "it counts wrong secrets": {tpmtest.Keys20, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := tpmtest.StartProxy(t, tpmtest.Start(t, c.state))
			tpm := openName(t, p.Name)
			p.Arm(countOnly, tpmtest.Fault{})
			for _, file := range []string{"pv-p256", "e2-p256-auth"} {
				mustSign(t, loadWith(t, tpm, file, tpmkey.Secret{}, motdepasseOf(t, file)), file)
			}
			if n := sentOf(p, "TPM2_CreatePrimary"); n != c.primaries {
				t.Errorf("%d primaries were made, want %d", n, c.primaries)
			}
			wantTries(t, tpm, 0)
		})
	}
}

// If the owner's secret is not known, a new key is made under the SRK that the TPM keeps,
// unless that counts wrong secrets.
func TestCreateUnderPersistentSRK(t *testing.T) {
	t.Parallel()
	software, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	makers := map[string]func(*tpmkey.TPM) (blob.Key, error){
		"Create": func(tpm *tpmkey.TPM) (blob.Key, error) {
			return tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: motdepasse()})
		},
		"Wrap": func(tpm *tpmkey.TPM) (blob.Key, error) {
			return tpm.Wrap(t.Context(), software, &tpmkey.WrapOptions{CreateOptions: tpmkey.CreateOptions{Auth: motdepasse()}})
		},
		"Seal": func(tpm *tpmkey.TPM) (blob.Key, error) { return tpm.Seal(t.Context(), []byte("data"), nil) },
	}
	for name, c := range map[string]struct {
		state  tpmtest.State
		parent uint32 // 0 where there is none
	}{
		"the owner's secret is not known": {tpmtest.KeptOwned20, 0x81000001},
		"the owner has none":              {tpmtest.Kept20, 0x40000001},
		"what is kept counts":             {tpmtest.Owned20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tpm, notes := openNoted(t, tpmtest.Start(t, c.state).Socket)
			for what, f := range makers {
				*notes = nil
				file, err := f(tpm)
				if c.parent == 0 {
					tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret)
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				if parent := file.(*blob.TSS2).Parent; parent != c.parent {
					t.Errorf("%s: the parent is %#x, want %#x", what, parent, c.parent)
				}
				if noted := strings.Join(*notes, ""); strings.Contains(noted, "0x81000001") != (c.parent == 0x81000001) {
					t.Errorf("%s: noted %q", what, noted)
				}
				if what == "Seal" {
					if data, err := tpm.Unseal(t.Context(), file, nil); err != nil || string(data) != "data" {
						t.Errorf("unsealed %q, %v", data, err)
					}
					continue
				}
				mustSign(t, loadFile(t, tpm, file), what)
			}
			wantTries(t, tpm, 0)
		})
	}
}

// For a key of another TPM all kinds of parents are tried once, the unusual ones after a
// note; then it is known that none fits, until a context of this start is gone.
func TestNoParentFits(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	s := newShelf(t, tpmtest.TPM20)
	file := fixture20(t, "pv-p256")
	load := func() (primaries int, notes []string) {
		t.Helper()
		s.p.Arm(countOnly, tpmtest.Fault{})
		tpm, noted := openNoted(t, s.p.Name)
		_, err := tpm.Load(t.Context(), file, nil)
		tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "TPM_RC_INTEGRITY")
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
		return sentOf(s.p, "TPM2_CreatePrimary"), *noted
	}
	for _, when := range []string{"at first", "after a restart"} {
		if n, notes := load(); n != 7 || len(notes) != 1 || !strings.Contains(notes[0], "trying 6 other kinds") {
			t.Errorf("%s: %d primaries, noted %q", when, n, notes)
		}
		if n, notes := load(); n != 0 || len(notes) != 0 || sentOf(s.p, "TPM2_Load") != 0 {
			t.Errorf("%s, again: %d primaries, noted %q", when, n, notes)
		}
		s.sw.Restart()
	}
}

// Somebody puts another key in the place of the one that fitted before: it is not used with
// an empty secret where it counts wrong ones.
func TestPersistentSRKReplaced(t *testing.T) {
	t.Parallel()
	counting := tpm2.ECCSRKTemplate
	counting.ObjectAttributes.NoDA = false
	for name, template := range map[string]tpm2.TPMTPublic{"by one that counts": counting, "by one of another template": tpm2.RSASRKTemplate} {
		t.Run(name, func(t *testing.T) {
			sw := tpmtest.Start(t, tpmtest.Kept20)
			tpm := openName(t, sw.Socket)
			mustSign(t, loadWith(t, tpm, "pv-p256", tpmkey.Secret{}, tpmkey.Secret{}))
			sw.Keep(template, "srk")
			sw.Send(tpmtest.OwnerSecret("proprio"))
			_, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256})
			tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret)
			_, err = tpm.Load(t.Context(), fixture20(t, "e2-p256"), nil)
			tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret)
			wantTries(t, tpm, 0)
		})
	}
}

// The secret of the owner's hierarchy is not for the key that the TPM keeps.
func TestOwnerSecretNotForPersistentSRK(t *testing.T) {
	t.Parallel()
	p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.KeptOwned20))
	tpm := openName(t, p.Name)
	p.Arm(countOnly, tpmtest.Fault{})
	for _, file := range []string{"pv-p256", "e2-p256"} {
		mustSign(t, loadWith(t, tpm, file, tpmkey.Password([]byte("proprio")), tpmkey.Secret{}), file)
	}
	for _, e := range p.Exchanges() {
		if handles, _ := tpmtest.Parts20(e.Command); slices.Contains(handles, 0x81000001) {
			t.Errorf("%s of 0x81000001", e.Name())
		}
	}
}
