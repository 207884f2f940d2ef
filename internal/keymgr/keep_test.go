package keymgr

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
)

// A secretKey is a recorded key with the secret "motdepasse", and its TPM.
type secretKey struct {
	state tpmtest.State
	file  string
}

// secretKeys has one for each generation.
var secretKeys = map[string]secretKey{
	"1.2": {tpmtest.Tutorial, "tpm12-tutorial/auth"},
	"2.0": {tpmtest.Keys20, "tpm2/e2-rsa-auth-da.pem"},
}

func withSecretKeys(t *testing.T, test func(t *testing.T, in secretKey)) {
	for name, in := range secretKeys {
		t.Run(name, func(t *testing.T) { test(t, in) })
	}
}

func (in secretKey) open(t *testing.T, secret Secret) *Key {
	t.Helper()
	m := openSocket(t, tpmtest.Start(t, in.state).Socket)
	file, err := blob.Parse(tpmtest.Fixture(t, in.file))
	if err != nil {
		t.Fatal(err)
	}
	return loadKey(t, m, file, secret)
}

// used does an operation, and returns where its secret was.
func used(t *testing.T, k *Key) (where chip.AuthData) {
	t.Helper()
	digest := make([]byte, 20)
	op, err := k.Ops.Sign(digest, crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	spy := &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		where = key
		return op.Run(in, key)
	}}
	if _, err = k.tpm.Do(&Work{Key: k, Op: spy}); err != nil {
		t.Fatal(err)
	}
	return where
}

// A secret that was asked for and must not be kept is not in memory after its use.
func TestAskedSecretIsNotKept(t *testing.T) { withSecretKeys(t, testAskedSecretIsNotKept) }

func testAskedSecretIsNotKept(t *testing.T, in secretKey) {
	var given *Secret
	k := in.open(t, AskSecret(func() (Secret, error) {
		s := Password([]byte("motdepasse"))
		given = &s
		return s, nil
	}))
	for range 2 {
		if used(t, k) != nil {
			t.Error("the operation had the secret itself, not a session")
		}
		if k.secret.known() != nil || k.secret.kept() {
			t.Error("the source has it")
		}
	}
	if given.value().sha1 == [20]byte{} || string(given.value().secret) != "motdepasse" {
		t.Error("the caller's own was cleared")
	}
}

// Each operation gets a copy of a secret that is kept, which is cleared after it. Close clears
// the source's.
func TestKeptSecretIsCleared(t *testing.T) { withSecretKeys(t, testKeptSecretIsCleared) }

func testKeptSecretIsCleared(t *testing.T, in secretKey) {
	given := Password([]byte("motdepasse"))
	ask := AskSecret(func() (Secret, error) { return given, nil })
	for name, secret := range map[string]Secret{"given": given, "kept": ask.Keep()} {
		k := in.open(t, secret)
		for range 2 {
			if where := used(t, k); len(where) == 0 || !bytes.Equal(where, make([]byte, len(where))) {
				t.Errorf("%s: the operation's copy was not cleared", name)
			}
		}
		want, err := given.ResolveFor(k.tpm.chip.Generation(), "the secret")
		if err != nil || !bytes.Equal(k.secret.known(), want) {
			t.Errorf("%s: the source does not have it", name)
		}
		ownValue, ofSRK := k.secret.source.value(), k.parentSecret.source.value()
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if ownValue.sha1 != [20]byte{} || !bytes.Equal(ownValue.secret, make([]byte, len(ownValue.secret))) || ofSRK.sha1 != [20]byte{} || k.secret.known() != nil || k.parentSecret.known() != nil {
			t.Errorf("%s: the source was not cleared", name)
		}
		if !given.Equal(Password([]byte("motdepasse"))) {
			t.Errorf("%s: the caller's own was", name)
		}
	}
}

// A secret that was cleared is no secret of zeros, which would cost a try.
func TestClearedSecretIsRefused(t *testing.T) {
	s := Password([]byte("motdepasse"))
	v := s.value()
	s.Clear()
	if v.sha1 != [20]byte{} || !bytes.Equal(v.secret, make([]byte, len("motdepasse"))) {
		t.Error("it is still there")
	}
	for _, s := range []Secret{s, AskSecret(func() (Secret, error) { return s, nil })} {
		for _, g := range []chip.Generation{chip.TPM12, chip.TPM20} {
			if auth, err := s.ResolveFor(g, "it"); auth != nil || !errors.Is(err, chip.ErrSecretNeeded) {
				t.Errorf("%x, %v", auth, err)
			}
		}
	}
}

// An answer that comes after the key was closed is not kept.
func TestAnswerAfterClose(t *testing.T) { withSecretKeys(t, testAnswerAfterClose) }

func testAnswerAfterClose(t *testing.T, in secretKey) {
	asking, answer := make(chan struct{}), make(chan struct{})
	k := in.open(t, AskSecret(func() (Secret, error) {
		close(asking)
		<-answer
		return Password([]byte("motdepasse")), nil
	}).Keep())
	failed := make(chan error, 1)
	go func() {
		_, err := k.tpm.Do(&Work{Key: k, Op: &chip.Operation{Run: func(chip.LoadedKey, chip.AuthData) ([]byte, error) { return nil, nil }}})
		failed <- err
	}()
	<-asking
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	close(answer)
	if err := <-failed; err == nil || k.secret.known() != nil || k.secret.kept() {
		t.Errorf("%v; the source has it: %v", err, k.secret.known() != nil)
	}
}
