package tpmkey_test

import (
	mathrand "math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A thousand keys on the three places of one TPM, used at random: no key is loaded from
// its file twice, and a switch costs at most three commands.
func TestThousandKeys20(t *testing.T) {
	tpm, tap := openTappedIn(t, tpmtest.Keys20)
	files := []string{"pv-p256", "e2-p256-auth", "e2-p256-81000001", "e2-import-ec", "e2-p384"}
	var keys []*tpmkey.Key
	for i := range 1000 {
		name := files[i%len(files)]
		keys = append(keys, loadWith(t, tpm, name, tpmkey.Secret{}, motdepasseOf(t, name)))
	}
	tap.Reset()
	const n = 300
	for i := range n {
		mustSign(t, keys[mathrand.IntN(len(keys))], i)
	}
	switches := tap.Count(uint32(tpm2.TPMCCContextLoad))
	if loads := tap.Count(uint32(tpm2.TPMCCLoad), uint32(tpm2.TPMCCCreatePrimary)); loads != 0 {
		t.Errorf("%d keys were loaded from their files again", loads)
	}
	if all := tap.Count(); all-n > 3*switches+2 { // and the session
		t.Errorf("%d commands for %d signatures and %d switches", all, n, switches)
	}
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
}

func motdepasseOf(t *testing.T, name string) tpmkey.Secret {
	if parseFixture(t, name).NeedsSecret() {
		return motdepasse()
	}
	return tpmkey.Secret{}
}

func loadFile(t *testing.T, tpm *tpmkey.TPM, file blob.Key) *tpmkey.Key {
	t.Helper()
	k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The software TPM comes and goes with its programs. That costs no try, though keys are
// used whose wrong secrets it counts.
func TestEmulatorComesAndGoes20(t *testing.T) {
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 })
		os.RemoveAll(dir)
	})
	use := func(f func(tpm *tpmkey.TPM)) {
		tpm, err := tpmkey.Open(t.Context(), "emulator2:"+dir)
		if err != nil {
			t.Fatal(err)
		}
		f(tpm)
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 })
	}
	var file blob.Key
	use(func(tpm *tpmkey.TPM) {
		if file, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: motdepasse()}); err != nil {
			t.Fatal(err)
		}
	})
	for i := range 4 {
		use(func(tpm *tpmkey.TPM) {
			mustSign(t, loadFile(t, tpm, file), i)
			wantTries(t, tpm, 0)
		})
	}
}
