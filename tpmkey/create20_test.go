package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A key that Create makes signs, decrypts or agrees, after its file was written and read.
func TestCreate20(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, test := range []struct {
		name   string
		opts   tpmkey.CreateOptions
		secret tpmkey.Secret
	}{
		{name: "default"},
		{name: "rsa3072", opts: tpmkey.CreateOptions{Type: tpmkey.RSA3072}},
		{name: "p256", opts: tpmkey.CreateOptions{Type: tpmkey.P256}},
		{name: "p384", opts: tpmkey.CreateOptions{Type: tpmkey.P384}},
		{name: "p521 with a secret", opts: tpmkey.CreateOptions{Type: tpmkey.P521, Auth: motdepasse()}},
		{name: "with a secret", opts: tpmkey.CreateOptions{Auth: motdepasse()}},
		{name: "persistent parent", opts: tpmkey.CreateOptions{Type: tpmkey.P256, Parent: 0x81000001}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.opts.Type == tpmkey.RSA3072 {
				tpmtest.Long(t, tpmtest.Slow20)
			}
			made, err := tpm.Create(t.Context(), &test.opts)
			if err != nil {
				t.Fatal(err)
			}
			file := reread(t, made)
			if file.NeedsSecret() == test.opts.Auth.IsZero() || pubarea.TPMT(file.(*blob.TSS2).Public).ObjectAttributes.NoDA == file.NeedsSecret() {
				t.Errorf("needs a secret: %v, attributes %+v", file.NeedsSecret(), pubarea.TPMT(file.(*blob.TSS2).Public).ObjectAttributes)
			}
			useAll20(t, tpm, file, test.opts.Auth)
		})
	}
}

// reread writes a key file, and reads it back.
func reread(t *testing.T, made blob.Key) blob.Key {
	t.Helper()
	data, err := made.Marshal(made.Container())
	if err != nil {
		t.Fatal(err)
	}
	file, err := blob.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func useAll20(t *testing.T, tpm *tpmkey.TPM, file blob.Key, secret tpmkey.Secret) {
	t.Helper()
	k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := signs(k); err != nil {
		t.Error(err)
	}
	if _, ok := k.Public().(*rsa.PublicKey); ok {
		decrypts20(t, k)
	} else {
		agrees20(t, k)
	}
}

// A software key is imported, and stays the same key.
func TestWrap20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	ours, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ours, ec} {
		for _, opts := range []*tpmkey.WrapOptions{
			nil, {CreateOptions: tpmkey.CreateOptions{Auth: motdepasse()}}, {CreateOptions: tpmkey.CreateOptions{Parent: 0x81000001}},
		} {
			file, err := tpm.Wrap(t.Context(), key, opts)
			if err != nil {
				t.Fatal(err)
			}
			var secret tpmkey.Secret
			if opts != nil {
				secret = opts.Auth
			}
			useAll20(t, tpm, reread(t, file), secret)
			if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(file.PublicKey()) {
				t.Error("another key came out")
			}
		}
	}
}

func TestSeal20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, secret := range []tpmkey.Secret{{}, motdepasse()} {
		data := bytes.Repeat([]byte("x"), blob.MaxSealed)
		made, err := tpm.Seal(t.Context(), data, &tpmkey.SealOptions{Auth: secret})
		if err != nil {
			t.Fatal(err)
		}
		file := reread(t, made)
		got, err := tpm.Unseal(t.Context(), file, &tpmkey.LoadOptions{Auth: secret})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q, %v", got, err)
		}
		if !secret.IsZero() {
			_, err := tpm.Unseal(t.Context(), file, &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte("faux"))})
			if !errors.Is(err, tpmkey.ErrWrongKeySecret) {
				t.Errorf("a wrong secret: %v", err)
			}
			if _, err := tpm.Unseal(t.Context(), file, nil); !errors.Is(err, tpmkey.ErrSecretNeeded) {
				t.Errorf("no secret: %v", err)
			}
		}
	}
	for _, n := range []int{0, blob.MaxSealed + 1} {
		if _, err := tpm.Seal(t.Context(), make([]byte, n), nil); !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("%d bytes sealed: %v", n, err)
		}
	}
}

// Create and Seal find room in a TPM with many keys loaded, and the keys work afterwards.
func TestCreateMakesRoom20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	var keys []*tpmkey.Key
	for range 5 {
		keys = append(keys, loadWith(t, tpm, "pv-p256", tpmkey.Secret{}, tpmkey.Secret{}))
	}
	if _, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: motdepasse()}); err != nil {
		t.Error(err)
	}
	if _, err := tpm.Seal(t.Context(), []byte("x"), nil); err != nil {
		t.Error(err)
	}
	for _, k := range keys {
		if err := signs(k); err != nil {
			t.Error(err)
		}
	}
	if file, err := tpm.ReadHandle(t.Context(), 0x81000001); err != nil || file.PublicKey() == nil {
		t.Error(err)
	}
}
