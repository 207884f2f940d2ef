package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Each kind of RSA key decrypts what it can, and refuses the rest.
func TestDecrypt20Kinds(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	pkcs1 := &rsa.PKCS1v15DecryptOptions{}
	oaep := func(label string) *rsa.OAEPOptions {
		return &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte(label)}
	}
	for name, c := range map[string]struct {
		kind   kind20
		pkcs1  bool
		labels map[string]bool
	}{
		"no scheme": {kind20{decrypt: true}, true, map[string]bool{"": true, "label": true, "label\x00": true, "\x00a\x00b": true}},
		"RSAES":     {kind20{decrypt: true, scheme: tpm2.TPMAlgRSAES}, true, map[string]bool{"": false}},
		"OAEP": {kind20{decrypt: true, scheme: tpm2.TPMAlgOAEP, hash: tpm2.TPMAlgSHA256}, false,
			map[string]bool{"": true, "label": false, "label\x00": true, "\x00": true, "a\x00b\x00": false}},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "no scheme" {
				tpmtest.Long(t, tpmtest.Slow20)
			}
			k := loadKind(t, tpm, c.kind)
			public := k.Public().(*rsa.PublicKey)
			own, err := tpmkey.Encrypt(k.File(), []byte("bonjour"))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := k.Decrypt(nil, own, nil); err != nil || string(plain) != "bonjour" {
				t.Errorf("Encrypt's: %q, %v", plain, err)
			}
			ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, []byte("bonjour"))
			if err != nil {
				t.Fatal(err)
			}
			wantPlain(t, k, ciphertext, pkcs1, c.pkcs1)
			wantPlain(t, k, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 7}, c.pkcs1)
			for label, can := range c.labels {
				ciphertext, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, public, []byte("bonjour"), []byte(label))
				if err != nil {
					t.Fatal(err)
				}
				wantPlain(t, k, ciphertext, oaep(label), can)
				if can {
					badPadding(t, k, ciphertext, oaep("other\x00"))
				}
			}
			chipPads := c.kind.scheme == tpm2.TPMAlgRSAES
			if c.pkcs1 && !(chipPads && tpmtest.ImplicitRejection()) {
				badPadding(t, k, own, pkcs1)
				badSessionKey(t, k, own)
			}
		})
	}
}

func wantPlain(t *testing.T, k *tpmkey.Key, ciphertext []byte, opts crypto.DecrypterOpts, can bool) {
	t.Helper()
	plain, err := k.Decrypt(nil, ciphertext, opts)
	if can && (err != nil || string(plain) != "bonjour") || !can && !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("%+v: %q, %v", opts, plain, err)
	}
}

// badPadding has a key open blocks that are wrong in different ways. All look alike,
// and the key goes on.
func badPadding(t *testing.T, k *tpmkey.Key, ciphertext []byte, opts crypto.DecrypterOpts) {
	t.Helper()
	public := k.Public().(*rsa.PublicKey)
	texts := map[string]bool{}
	for _, bad := range [][]byte{
		flipped(ciphertext), encrypted(public, []byte{1}), encrypted(public, append([]byte{2}, bytes.Repeat([]byte{1}, 254)...)), make([]byte, public.Size()),
		bytes.Repeat([]byte{0xff}, public.Size()),
	} {
		plain, err := k.Decrypt(nil, bad, opts)
		if plain != nil || !errors.Is(err, rsa.ErrDecryption) {
			t.Errorf("%+v: %q, %v", opts, plain, err)
			continue
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%+v: %d kinds of errors: %v", opts, len(texts), texts)
	}
}

func badSessionKey(t *testing.T, k *tpmkey.Key, ciphertext []byte) {
	t.Helper()
	fallback := randomBytes(7)
	for _, bad := range [][]byte{flipped(ciphertext), encrypted(k.Public().(*rsa.PublicKey), []byte{1})} {
		key, err := k.Decrypt(bytes.NewReader(fallback), bad, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 7})
		if err != nil || !bytes.Equal(key, fallback) {
			t.Errorf("%x, %v", key, err)
		}
	}
}

func flipped(ciphertext []byte) []byte {
	bad := bytes.Clone(ciphertext)
	bad[len(bad)-1] ^= 1
	return bad
}

// encrypted is a block, without padding, as a ciphertext.
func encrypted(public *rsa.PublicKey, block []byte) []byte {
	m := new(big.Int).SetBytes(block)
	return m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

// A key agrees on what crypto/ecdh agrees on, on its own curve.
func TestAgree20Curves(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		curve tpm2.TPMECCCurve
		in    ecdh.Curve
	}{
		"P-256": {tpm2.TPMECCNistP256, ecdh.P256()}, "P-384": {tpm2.TPMECCNistP384, ecdh.P384()}, "P-521": {tpm2.TPMECCNistP521, ecdh.P521()},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, kind20{decrypt: true, curve: c.curve})
			public, err := k.Public().(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				remote, err := c.in.GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				want, err := remote.ECDH(public)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.ECDH(remote.PublicKey()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%x, %v; want %x", got, err, want)
				}
			}
			if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, tpmkey.ErrNotSupported) {
				t.Error(err)
			}
		})
	}
}
