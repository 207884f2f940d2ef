package chip20

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// ECDSA signs the same integer for every hash and for every set of the chip's hashes.
func TestSign20ECDSA(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k := &software20{ecdsa: private}
		for _, able := range []*keyOps{
			k.able(t, signs, keyScheme{}),
			k.able(t, signs, keyScheme{}, tpm2.TPMAlgSHA3512),
			k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA512),
			k.able(t, signs, keyScheme{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA512}),
		} {
			for _, h := range append(every, crypto.BLAKE2b_512, crypto.BLAKE2s_256) {
				digest := someDigest(h)
				sig, err := k.signed(t, able, digest, h)
				if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig) {
					t.Errorf("%v, %v: %v", curve.Params().Name, h, err)
				}
			}
			for _, n := range []int{1, 31, 33, 47, 49, 63, 64, 65, 66, 67, 100} {
				digest := make([]byte, n)
				rand.Read(digest)
				sig, err := k.signed(t, able, digest, crypto.Hash(0))
				if tooLong := curve == elliptic.P521() && n > 64; tooLong {
					if !errors.Is(err, chip.ErrNotSupported) {
						t.Errorf("P-521, %d bytes: %v", n, err)
					}
				} else if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig) {
					t.Errorf("%v, %d bytes: %v", curve.Params().Name, n, err)
				}
			}
		}
	}
}

// A key that is limited to a hash signs other digests as far as they fit.
func TestSign20ECDSAScheme(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &software20{ecdsa: private}
	able := k.able(t, signs, keyScheme{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256})
	for _, h := range every {
		digest := someDigest(h)
		sig, err := k.signed(t, able, digest, h)
		switch {
		case h.Size() > 32 && (!errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), "SHA-256")):
			t.Errorf("%v: %v", h, err)
		case h.Size() <= 32 && (err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig)):
			t.Errorf("%v: %v", h, err)
		}
	}
}

// Integers with zeros in front are encoded as crypto/ecdsa does.
func TestECDSADER(t *testing.T) {
	t.Parallel()
	sig, err := ecdsaDER([]byte{0, 0, 0x80, 1}, []byte{0, 5})
	if want := []byte{0x30, 8, 2, 3, 0, 0x80, 1, 2, 1, 5}; err != nil || !bytes.Equal(sig, want) {
		t.Errorf("%x, %v", sig, err)
	}
}
