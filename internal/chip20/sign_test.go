package chip20

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"maclef/internal/chip"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// A key that signs and decrypts makes what crypto/rsa makes, on a chip with one hash.
func TestSign20PKCS1(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	for name, able := range map[string]*keyOps{
		"all hashes": k.able(t, signs|decrypts, keyScheme{}),
		"SHA-256":    k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA256),
		"SHA-3":      k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA3256),
		"decrypts":   k.able(t, decrypts, keyScheme{}),
	} {
		for _, h := range every {
			digest := someDigest(h)
			want, err := rsa.SignPKCS1v15(nil, k.rsa, h, digest)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.signed(t, able, digest, h)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %v: %x, %v", name, h, got, err)
			}
		}
		for _, n := range []int{1, 20, 36, 83, 245} {
			raw := bytes.Repeat([]byte{0xa5}, n)
			sig, err := k.signed(t, able, raw, crypto.Hash(0))
			if err != nil || rsa.VerifyPKCS1v15(&k.rsa.PublicKey, 0, raw, sig) != nil {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
		for _, n := range []int{0, 246, 1000} {
			if _, err := able.planSign(make([]byte, n), crypto.Hash(0)); err == nil {
				t.Errorf("%s: %d bytes accepted", name, n)
			}
		}
	}
}

// A key that only signs does what the chip has hashes for, and a DigestInfo of those.
func TestSign20PKCS1SignOnly(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	able := k.able(t, signs, keyScheme{}, tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA3384)
	for _, h := range every {
		digest := someDigest(h)
		sig, err := k.signed(t, able, digest, h)
		if able.can.algorithms[algOf(h)] {
			if err != nil || rsa.VerifyPKCS1v15(&k.rsa.PublicKey, h, digest, sig) != nil {
				t.Errorf("%v: %v", h, err)
			}
			info, _ := chip.DigestInfo(h, digest)
			again, err := k.signed(t, able, info, crypto.Hash(0))
			if err != nil || !bytes.Equal(sig, again) {
				t.Errorf("%v, DigestInfo: %v", h, err)
			}
		} else if !errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), "SHA-1, SHA-256, SHA3-384") {
			t.Errorf("%v: %v", h, err)
		}
	}
	if _, err := able.planSign([]byte("bonjour"), crypto.Hash(0)); !errors.Is(err, chip.ErrNotSupported) {
		t.Error(err)
	}
}
