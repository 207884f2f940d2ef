package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"sync"
	"testing"

	_ "crypto/md5"
	_ "crypto/sha3"

	_ "golang.org/x/crypto/ripemd160" //lint:ignore SA1019 a hash that crypto/rsa knows

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Every hash that crypto/rsa signs with PKCS#1 v1.5: that it verifies here is
// what says that the DigestInfo is right.
func TestSignWithEveryHash(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "maclef")
	for _, h := range []crypto.Hash{
		crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512,
		crypto.SHA512_224, crypto.SHA512_256, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384,
		crypto.SHA3_512, crypto.MD5SHA1, crypto.RIPEMD160,
	} {
		digest := make([]byte, h.Size())
		rand.Read(digest)
		sig, err := k.Sign(rand.Reader, digest, h)
		if err != nil {
			t.Errorf("%v: %v", h, err)
		} else if err := rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), h, digest, sig); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
}

func TestSignRawBytes(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "maclef")
	for _, n := range []int{1, 20, 36, 245} {
		raw := bytes.Repeat([]byte{0xa5}, n)
		sig, err := k.Sign(nil, raw, crypto.Hash(0))
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		} else if err := rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), 0, raw, sig); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, 246, 1000} {
		if sig, err := k.Sign(nil, make([]byte, n), crypto.Hash(0)); err == nil {
			t.Errorf("%d bytes: signature %x", n, sig)
		}
	}
}

type oddOptions struct{}

func (oddOptions) HashFunc() crypto.Hash { return crypto.SHA256 }

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	stpm := openState(t, tpmtest.WellKnown)
	signing, err := stpm.LoadFile(t.Context(), tpmtest.FixturePath(t, "tpm12-wellknown/stpm.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	der, sha1 := loadFixture(t, tpm, "maclef"), loadFixture(t, tpm, "sha1")
	small := loadFixture(t, tpm, "rsa512")
	for name, c := range map[string]struct {
		key    *tpmkey.Key
		digest int
		opts   crypto.SignerOpts
		kind   error
	}{
		"nil options":             {der, 32, nil, tpmkey.ErrNotSupported},
		"PSS":                     {der, 32, &rsa.PSSOptions{Hash: crypto.SHA256}, tpmkey.ErrNotSupported},
		"PSS, nil pointer":        {der, 32, (*rsa.PSSOptions)(nil), tpmkey.ErrNotSupported},
		"PSS, signing key":        {signing, 32, &rsa.PSSOptions{Hash: crypto.SHA256}, tpmkey.ErrNotSupported},
		"foreign options":         {der, 32, oddOptions{}, tpmkey.ErrNotSupported},
		"Ed25519 options":         {der, 32, &ed25519.Options{}, tpmkey.ErrNotSupported},
		"unknown hash":            {der, 32, crypto.Hash(99), tpmkey.ErrNotSupported},
		"BLAKE2":                  {der, 32, crypto.BLAKE2b_256, tpmkey.ErrNotSupported},
		"short digest":            {der, 31, crypto.SHA256, nil},
		"long digest":             {der, 33, crypto.SHA256, nil},
		"empty digest":            {der, 0, crypto.SHA256, nil},
		"SHA1 key with SHA-256":   {sha1, 32, crypto.SHA256, tpmkey.ErrNotSupported},
		"SHA1 key with raw bytes": {sha1, 20, crypto.Hash(0), tpmkey.ErrNotSupported},
		"SHA1 key, short digest":  {sha1, 19, crypto.SHA1, nil},
		"512 bits with SHA-512":   {small, 64, crypto.SHA512, tpmkey.ErrNotSupported},
	} {
		sig, err := c.key.Sign(nil, make([]byte, c.digest), c.opts)
		if err == nil || sig != nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
}

// The old engine could not sign with these at all.
func TestSHA1SchemeSigns(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	for _, name := range []string{"sha1", "oaep-sha1"} {
		k := loadFixture(t, tpm, name)
		digest := digestOf("sha1", []byte("bonjour"))
		sig, err := k.Sign(nil, digest, crypto.SHA1)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), crypto.SHA1, digest, sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	keys := []*tpmkey.Key{loadFixture(t, tpm, "maclef"), loadFixture(t, tpm, "auth"), loadFixture(t, tpm, "rsa1024")}
	bound := tpmtest.Fixture(t, "tpm12-tutorial/auth.bound")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 6 {
				k := keys[(i+n)%len(keys)]
				if _, err := k.Sign(nil, digestOf("sha256", []byte{byte(i), byte(n)}), crypto.SHA256); err != nil {
					t.Error(err)
				}
				if plain, err := keys[1].Decrypt(nil, bound, nil); err != nil || string(plain) != "bonjour" {
					t.Errorf("%q, %v", plain, err)
				}
			}
		}()
	}
	wg.Wait()
}

// Keys are closed while others sign: an operation gives a right result or
// ErrClosed, never another key's signature.
func TestCloseWhileSigning(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	for range 5 {
		k := loadFixture(t, tpm, "rsa1024")
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
					if errors.Is(err, tpmkey.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}
