package tpmkey_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// tutorialSRK is the SRK's secret of the tutorial's TPM: the empty password.
func tutorialSRK() tpmkey.Secret { return tpmkey.Password(nil) }

// motdepasse is the secret of every recorded key that has one.
func motdepasse() tpmkey.Secret { return tpmkey.Password([]byte("motdepasse")) }

// motdepasseOf is the secret of a recorded key, if it has one.
func motdepasseOf(t *testing.T, name string) tpmkey.Secret {
	if parseFixture(t, name).NeedsSecret() {
		return motdepasse()
	}
	return tpmkey.Secret{}
}

// openTutorial opens a private copy of the TPM that owns the tutorial's keys.
func openTutorial(t *testing.T) *tpmkey.TPM {
	t.Helper()
	return openState(t, tpmtest.Tutorial)
}

func openState(t *testing.T, state tpmtest.State) *tpmkey.TPM {
	t.Helper()
	return openName(t, tpmtest.Start(t, state).Socket)
}

func openName(t *testing.T, name string) *tpmkey.TPM {
	t.Helper()
	tpm, err := tpmkey.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	})
	return tpm
}

// openWaiting opens a TPM that other programs are waited for only so long.
func openWaiting(t *testing.T, name string, wait time.Duration) *tpmkey.TPM {
	t.Helper()
	tpm, err := tpmkey.OpenWithOptions(context.Background(), name, &tpmkey.OpenOptions{Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	})
	return tpm
}

// loadFixture loads a recorded key with the secrets it needs. The SRK's is the empty
// password in both generations.
func loadFixture(t *testing.T, tpm *tpmkey.TPM, name string) *tpmkey.Key {
	t.Helper()
	file := parseFixture(t, name)
	opts := &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Name: name}
	if file.NeedsSecret() {
		opts.Auth = motdepasse()
	}
	k, err := tpm.Load(t.Context(), file, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

var hashes = map[string]struct {
	id  crypto.Hash
	new func() hash.Hash
}{
	"sha1":   {crypto.SHA1, sha1.New},
	"sha256": {crypto.SHA256, sha256.New},
	"sha384": {crypto.SHA384, sha512.New384},
	"sha512": {crypto.SHA512, sha512.New},
}

func digestOf(name string, message []byte) []byte {
	h := hashes[name].new()
	h.Write(message)
	return h.Sum(nil)
}

func TestRecordedSignatures(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	fox := tpmtest.Fixture(t, "tpm12-tutorial/fox.txt")
	n := 0
	for _, name := range []string{"maclef", "oaep", "rsa1024", "rsa512", "auth", "wrapped", "wrapped1024", "wrapped-auth"} {
		k := loadFixture(t, tpm, name)
		for _, h := range []string{"sha1", "sha256", "sha384", "sha512"} {
			if name == "rsa512" && (h == "sha384" || h == "sha512") {
				continue // too long for 512 bits
			}
			want := tpmtest.Fixture(t, "tpm12-tutorial/"+name+"."+h+".sig")
			got, err := k.Sign(nil, digestOf(h, fox), hashes[h].id)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %s: %x, %v; want %x", name, h, got, err, want)
			}
			n++
		}
	}
	if n != 30 {
		t.Errorf("%d recorded signatures checked, not 30", n)
	}
}

func TestRecordedCiphertexts(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	bonjour := tpmtest.Fixture(t, "tpm12-tutorial/bonjour.txt")
	for _, name := range []string{"maclef", "rsa1024", "rsa512", "sha1", "auth", "wrapped", "wrapped1024", "wrapped-auth"} {
		checkDecrypts(t, loadFixture(t, tpm, name), name+".bound", bonjour)
	}
	for _, name := range []string{"maclef", "rsa1024", "oaep", "oaep-sha1"} {
		checkDecrypts(t, loadFixture(t, tpm, name), name+".tspi-bound", bonjour)
	}
}

func checkDecrypts(t *testing.T, k *tpmkey.Key, file string, want []byte) {
	t.Helper()
	got, err := k.Decrypt(nil, tpmtest.Fixture(t, "tpm12-tutorial/"+file), nil)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %q, %v; want %q", file, got, err, want)
	}
}

// stpm.key has no secret; stpm-pin.key has one, the empty password.
func TestSimpleTPMPK11Keys(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openState(t, tpmtest.WellKnown)
	fox := tpmtest.Fixture(t, "tpm12-wellknown/fox.txt")
	for name, opts := range map[string]*tpmkey.LoadOptions{"stpm.key": nil, "stpm-pin.key": {Auth: tpmkey.Password(nil)}} {
		k, err := tpm.LoadFile(t.Context(), tpmtest.FixturePath(t, "tpm12-wellknown/"+name), opts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Sign(nil, fox, crypto.Hash(0))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := tpmtest.Fixture(t, "tpm12-wellknown/stpm.sig"); name == "stpm.key" && !bytes.Equal(got, want) {
			t.Errorf("%s: %x; want %x", name, got, want)
		}
	}
}
