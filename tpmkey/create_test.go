package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/pemkey"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

func TestCreate(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	tpm := openState(t, tpmtest.WellKnown)
	secret := tpmkey.Password([]byte("motdepasse"))
	for name, opts := range map[string]*tpmkey.CreateOptions{
		"defaults":        nil,
		"1024":            {Bits: 1024},
		"512":             {Bits: 512},
		"OAEP":            {Bits: 1024, EncScheme: blob.ESRSAESOAEPSHA1MGF1},
		"SHA1":            {Bits: 1024, SigScheme: blob.SSRSASSAPKCS1v15SHA1},
		"OAEP, SHA1":      {Bits: 1024, EncScheme: blob.ESRSAESOAEPSHA1MGF1, SigScheme: blob.SSRSASSAPKCS1v15SHA1},
		"secret":          {Bits: 1024, Auth: secret},
		"wellknown":       {Bits: 1024, Auth: tpmkey.WellKnown()},
		"secret, OAEP":    {Bits: 1024, Auth: secret, EncScheme: blob.ESRSAESOAEPSHA1MGF1},
		"SRK's asked for": {Bits: 512, ParentAuth: tpmkey.AskSecret(func() (tpmkey.Secret, error) { return tpmkey.WellKnown(), nil })},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := tpm.Create(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if opts == nil {
				opts = new(tpmkey.CreateOptions)
			}
			checkMade(t, tpm, made, opts)
		})
	}
	for name, opts := range map[string]*tpmkey.CreateOptions{
		"3072 bits":   {Bits: 3072},
		"negative":    {Bits: -1},
		"unknown enc": {EncScheme: 9},
		"unknown sig": {SigScheme: 9},
	} {
		if _, err := tpm.Create(t.Context(), opts); err == nil {
			t.Errorf("%s: made a key", name)
		}
	}
}

// checkMade writes the key file, reads it back, and uses the key.
func checkMade(t *testing.T, tpm *tpmkey.TPM, made blob.Key, opts *tpmkey.CreateOptions) {
	t.Helper()
	file := reread(t, made)
	if file.NeedsSecret() != !opts.Auth.IsZero() || file.Migratable() {
		t.Errorf("needs secret %v, migratable %v", file.NeedsSecret(), file.Migratable())
	}
	k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: opts.Auth})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	digest := digestOf("sha1", []byte("bonjour"))
	if _, err := k.Sign(nil, digest, crypto.SHA1); err != nil {
		t.Error(err)
	}
	if file.PublicKey().(*rsa.PublicKey).N.BitLen() < 1024 {
		return // Go does not encrypt with those
	}
	c, err := tpmkey.Encrypt(file, []byte("bonjour"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Decrypt(nil, c, nil); err != nil || string(got) != "bonjour" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, c := range map[string]struct {
		open  func(*testing.T) *tpmkey.TPM
		srk   tpmkey.Secret
		owner tpmkey.Secret
	}{
		"SRK readable":     {openTutorial, tutorialSRK(), tpmkey.Secret{}},
		"SRK not readable": {ownedTPM, tpmkey.WellKnown(), tpmkey.WellKnown()},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := c.open(t)
			for _, file := range []string{"wrapped.pem", "wrapped1024.pem"} {
				private, err := pemkey.Parse(tpmtest.Fixture(t, "tpm12-tutorial/"+file), nil)
				if err != nil {
					t.Fatal(err)
				}
				checkWrap(t, tpm, private.(*rsa.PrivateKey), c.srk, c.owner)
			}
		})
	}
}

func checkWrap(t *testing.T, tpm *tpmkey.TPM, private *rsa.PrivateKey, srk, owner tpmkey.Secret) {
	t.Helper()
	opts := &tpmkey.WrapOptions{OwnerAuth: owner, CreateOptions: tpmkey.CreateOptions{ParentAuth: srk, Auth: motdepasse()}}
	made, err := tpm.Wrap(t.Context(), private, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !made.Migratable() || !made.NeedsSecret() {
		t.Errorf("migratable %v, needs secret %v", made.Migratable(), made.NeedsSecret())
	}
	k, err := tpm.Load(t.Context(), made, &tpmkey.LoadOptions{ParentAuth: srk, Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	digest := digestOf("sha256", []byte("bonjour"))
	want, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Sign(nil, digest, crypto.SHA256); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
}

// ownedTPM is a new TPM with well-known secrets; its SRK is not readable.
func ownedTPM(t *testing.T) *tpmkey.TPM {
	t.Helper()
	tpm := openState(t, tpmtest.Fresh)
	if err := tpm.TakeOwnership(t.Context(), tpmkey.WellKnown(), tpmkey.WellKnown()); err != nil {
		t.Fatal(err)
	}
	return tpm
}

func TestWrapNeedsOwner(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := ownedTPM(t)
	private, err := pemkey.Parse(tpmtest.Fixture(t, "tpm12-tutorial/wrapped.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Wrap(t.Context(), private, nil)
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded, "owner's secret")
	_, err = tpm.Wrap(t.Context(), private, &tpmkey.WrapOptions{OwnerAuth: motdepasse()})
	tpmtest.WantError(t, err, tpmkey.ErrWrongOwnerSecret, "TPM_AUTHFAIL")
	big, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Wrap(t.Context(), big, &tpmkey.WrapOptions{OwnerAuth: tpmkey.WellKnown()}); err == nil {
		t.Error("wrapped a key of 3072 bits")
	}
}

func TestTakeOwnership(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openState(t, tpmtest.Fresh)
	utf16, err := tpmkey.PasswordUTF16([]byte("clé"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm.TakeOwnership(t.Context(), motdepasse(), utf16); err != nil {
		t.Fatal(err)
	}
	made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Bits: 512, ParentAuth: utf16})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Load(t.Context(), made, nil); !errors.Is(err, tpmkey.ErrWrongSRKSecret) {
		t.Errorf("well-known secret: %v", err)
	}
	if err := tpm.TakeOwnership(t.Context(), tpmkey.Secret{}, tpmkey.Secret{}); err == nil {
		t.Error("took ownership twice")
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openState(t, tpmtest.Fresh)
	a, b := make([]byte, 1000), make([]byte, 1000)
	for _, p := range [][]byte{a, b, nil} {
		if n, err := tpm.Random(t.Context()).Read(p); n != len(p) || err != nil {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
	}
	if bytes.Equal(a, b) || bytes.Contains(a, make([]byte, 16)) {
		t.Error("not random")
	}
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	plain := tpmtest.Fixture(t, "tpm12-tutorial/wrapped.pem")
	block, _ := pem.Decode(plain)
	//lint:ignore SA1019 the old encryption is what is tested
	old, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", pkcs1Of(t, plain), []byte("mot"), x509.PEMCipherAES128)
	if err != nil {
		t.Fatal(err)
	}
	password := func(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }
	for name, c := range map[string]struct {
		data     []byte
		password func() ([]byte, error)
		kind     error // nil: it parses
	}{
		"PEM":                 {plain, nil, nil},
		"DER":                 {block.Bytes, nil, nil},
		"old PEM":             {pem.EncodeToMemory(old), password("mot"), nil},
		"old PEM, wrong":      {pem.EncodeToMemory(old), password("x"), pemkey.ErrWrongPassword},
		"old PEM, none given": {pem.EncodeToMemory(old), nil, tpmkey.ErrSecretNeeded},
	} {
		_, err := pemkey.Parse(c.data, c.password)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string]string{
		"empty": "", "text": "bonjour", "cut PEM": string(plain[:100]), "blob": string(tpmtest.Fixture(t, "tpm12-tutorial/maclef")),
		"certificate": string(tpmtest.Fixture(t, "tpm12-tutorial/maclef.crt")),
	} {
		if _, err := pemkey.Parse([]byte(data), nil); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func pkcs1Of(t *testing.T, pemKey []byte) []byte {
	t.Helper()
	k, err := pemkey.Parse(pemKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x509.MarshalPKCS1PrivateKey(k.(*rsa.PrivateKey))
}
