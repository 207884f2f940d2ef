package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// wantSecret checks that nothing of what is secret crossed the bus in clear, that
// something crossed at all, and forgets it.
func wantSecret(t *testing.T, tap *tpmtest.Tap, what string, secrets ...[]byte) {
	t.Helper()
	if tap.Count() == 0 {
		t.Errorf("%s: nothing was recorded", what)
	}
	for _, e := range tap.Exchanges() {
		for _, s := range secrets {
			if bytes.Contains(e.Command, s) || bytes.Contains(e.Response, s) {
				t.Errorf("%s: %q is in clear in %s", what, s, e.Name())
			}
		}
	}
	tap.Reset()
}

// No password, plaintext, sealed data, shared secret or imported key crosses the bus in
// clear, whatever is done.
func TestNothingSecretInClear20(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	tpm, tap := openTappedIn(t, tpmtest.Owned20)
	owner, password := []byte("proprio"), []byte("motdepasse")
	srk := tpmkey.Password(owner)
	for name, secret := range map[string]func() tpmkey.Secret{"given": motdepasse, "asked": asked, "kept": func() tpmkey.Secret { return asked().Keep() }} {
		file, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Auth: motdepasse(), ParentAuth: srk})
		if err != nil {
			t.Fatal(err)
		}
		wantSecret(t, tap, name+": create", owner, password)
		k, err := tpm.Load(t.Context(), reread(t, file), &tpmkey.LoadOptions{Auth: secret(), ParentAuth: srk})
		if err != nil {
			t.Fatal(err)
		}
		mustSign(t, k)
		wantSecret(t, tap, name+": load and sign", owner, password)
		decryptsSecretly(t, k, tap, name)
		k.Close()
	}
	ours, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file, err := tpm.Wrap(t.Context(), ours, &tpmkey.WrapOptions{CreateOptions: tpmkey.CreateOptions{Auth: motdepasse(), ParentAuth: srk}})
	if err != nil {
		t.Fatal(err)
	}
	wantSecret(t, tap, "wrap", owner, password, ours.D.FillBytes(make([]byte, 32)))
	for name, secret := range map[string]func() tpmkey.Secret{"given": motdepasse, "asked": asked} {
		k, err := tpm.Load(t.Context(), reread(t, file), &tpmkey.LoadOptions{Auth: secret(), ParentAuth: srk})
		if err != nil {
			t.Fatal(err)
		}
		agreesSecretly(t, k, tap, name)
		k.Close()
	}
}

func decryptsSecretly(t *testing.T, k *tpmkey.Key, tap *tpmtest.Tap, name string) {
	t.Helper()
	message := []byte("the plaintext itself")
	public := k.Public().(*rsa.PublicKey)
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, message)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Decrypt(nil, ciphertext, nil); err != nil || !bytes.Equal(plain, message) {
		t.Errorf("%q, %v", plain, err)
	}
	if ciphertext, err = rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, public, message, nil); err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil || !bytes.Equal(plain, message) {
		t.Errorf("%q, %v", plain, err)
	}
	for _, e := range tap.Exchanges() { // of OAEP the block is masked, but anybody can undo that
		if block := e.Response; len(block) >= 16+256 && bytes.Contains(e.Command, encrypted(public, block[16:16+256])) {
			t.Errorf("%s: the padded plaintext is in clear in %s", name, e.Name())
		}
	}
	wantSecret(t, tap, name+": decrypt", message, []byte("motdepasse"))
}

func agreesSecretly(t *testing.T, k *tpmkey.Key, tap *tpmtest.Tap, name string) {
	t.Helper()
	theirs, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := k.ECDH(theirs.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	wantSecret(t, tap, name+": agree", shared, []byte("motdepasse"))
}

func TestSealedInSecret20(t *testing.T) {
	t.Parallel()
	tpm, tap := openTappedIn(t, tpmtest.Keys20)
	data := []byte("what is sealed")
	for _, secret := range []tpmkey.Secret{{}, motdepasse()} {
		for _, parent := range []uint32{0, 0x81000001} {
			file, err := tpm.Seal(t.Context(), data, &tpmkey.SealOptions{Auth: secret, Parent: parent})
			if err != nil {
				t.Fatal(err)
			}
			wantSecret(t, tap, "seal", data, []byte("motdepasse"))
			if got, err := tpm.Unseal(t.Context(), reread(t, file), &tpmkey.LoadOptions{Auth: secret}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%q, %v", got, err)
			}
			wantSecret(t, tap, "unseal", data, []byte("motdepasse"))
		}
	}
}

func TestLockoutSecretInSecret20(t *testing.T) {
	t.Parallel()
	tpm, tap := openTappedIn(t, tpmtest.Owned20)
	tpmtest.SpendTries(t, tap, 1)
	tap.Reset()
	lockout := tpmkey.OwnerSecret(tpmkey.Password([]byte("verrou")))
	if changed, err := tpm.ResetLockout(t.Context(), lockout); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
	wantSecret(t, tap, "reset the lockout", []byte("verrou"))
	if changed, err := tpm.Clear(t.Context(), lockout, nil); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
	wantSecret(t, tap, "clear", []byte("verrou"))
}
