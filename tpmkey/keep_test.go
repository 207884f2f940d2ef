package tpmkey

import (
	"bytes"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
)

func openSecretKey(t *testing.T, secret Secret) *Key {
	t.Helper()
	tpm, err := Open(tpmtest.Start(t, tpmtest.Tutorial).Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/auth"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(file, &LoadOptions{SRK: Password(nil), Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// used does an operation, and returns where its secret was.
func used(t *testing.T, k *Key) (where authData) {
	t.Helper()
	_, err := k.operate(func(in loadedKey, key authData) ([]byte, error) {
		where = key
		return in.sign(&signing{area: make([]byte, 20)}, key)
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// A secret that was asked for and may not be kept is nowhere once the TPM has seen
// it.
func TestAskedSecretIsNotKept(t *testing.T) {
	var given *Secret
	k := openSecretKey(t, AskSecret(func() (Secret, error) {
		s := Password([]byte("motdepasse"))
		given = &s
		return s, nil
	}))
	for range 2 {
		if used(t, k) != nil {
			t.Error("the operation had the secret itself, not a session")
		}
		if k.secret.known() != nil || k.secret.kept() {
			t.Error("the vault has it")
		}
	}
	if given.value().sha1 == [20]byte{} || string(given.value().secret) != "motdepasse" {
		t.Error("the caller's own was cleared")
	}
}

// A secret that is kept is a copy for each operation, cleared after it; the vault's
// is cleared by Close.
func TestKeptSecretIsCleared(t *testing.T) {
	given := Password([]byte("motdepasse"))
	ask := AskSecret(func() (Secret, error) { return given, nil })
	for name, secret := range map[string]Secret{"given": given, "kept": ask.Keep()} {
		k := openSecretKey(t, secret)
		for range 2 {
			if where := used(t, k); where == nil || !bytes.Equal(where, make([]byte, 20)) {
				t.Errorf("%s: the operation's copy was not cleared", name)
			}
		}
		if !SHA1Secret([20]byte(k.secret.known())).Equal(given) {
			t.Errorf("%s: the vault does not have it", name)
		}
		inVault, ofSRK := k.secret.source.value(), k.srk.source.value()
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if inVault.sha1 != [20]byte{} || inVault.secret != nil || ofSRK.sha1 != [20]byte{} || k.secret.known() != nil || k.srk.known() != nil {
			t.Errorf("%s: the vault was not cleared", name)
		}
		if !given.Equal(Password([]byte("motdepasse"))) {
			t.Errorf("%s: the caller's own was", name)
		}
	}
}

// Nor is an answer kept that comes after the key was closed.
func TestAnswerAfterClose(t *testing.T) {
	asking, answer := make(chan struct{}), make(chan struct{})
	k := openSecretKey(t, AskSecret(func() (Secret, error) {
		close(asking)
		<-answer
		return Password([]byte("motdepasse")), nil
	}).Keep())
	failed := make(chan error, 1)
	go func() {
		_, err := k.operate(func(in loadedKey, key authData) ([]byte, error) { return nil, nil })
		failed <- err
	}()
	<-asking
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	close(answer)
	if err := <-failed; err == nil || k.secret.known() != nil || k.secret.kept() {
		t.Errorf("%v; the vault has it: %v", err, k.secret.known() != nil)
	}
}
