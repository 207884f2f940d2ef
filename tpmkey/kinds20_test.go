package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A kind20 is a kind of key that a TPM 2.0 can have.
type kind20 struct {
	sign, decrypt bool
	curve         tpm2.TPMECCCurve // 0 for RSA, 2048 bits
	scheme        tpm2.TPMAlgID    // 0 for none
	hash          tpm2.TPMAlgID
	restricted    bool
}

func (k kind20) area() *tpm2.TPMTPublic {
	area := &tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
			SignEncrypt: k.sign, Decrypt: k.decrypt, Restricted: k.restricted,
		},
	}
	scheme, none := k.scheme, tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
	if scheme == 0 {
		scheme = tpm2.TPMAlgNull
	}
	if k.curve != 0 {
		area.Type = tpm2.TPMAlgECC
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: none, Scheme: tpm2.TPMTECCScheme{Scheme: scheme, Details: k.details()}, CurveID: k.curve,
		})
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
		return area
	}
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: none, Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: k.details()}, KeyBits: 2048,
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return area
}

func (k kind20) details() tpm2.TPMUAsymScheme {
	switch k.scheme {
	case tpm2.TPMAlgRSASSA:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeRSASSA{HashAlg: k.hash})
	case tpm2.TPMAlgRSAPSS:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: k.hash})
	case tpm2.TPMAlgRSAES:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSEncSchemeOAEP{HashAlg: k.hash})
	case tpm2.TPMAlgECDSA:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: k.hash})
	}
	return tpm2.TPMUAsymScheme{}
}

// loadKind makes a key and loads it.
func loadKind(t *testing.T, tpm *tpmkey.TPM, kind kind20) *tpmkey.Key {
	t.Helper()
	file, err := tpm.CreateArea(kind.area())
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(t.Context(), file, nil)
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

// hashes20 are those of most of crypto/rsa's signatures.
var hashes20 = []crypto.Hash{
	crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA512_224, crypto.SHA512_256,
	crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.MD5SHA1, crypto.RIPEMD160,
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// wantSignature is one that verifies, where the key can make it, else a refusal.
func wantSignature(t *testing.T, k *tpmkey.Key, digest []byte, opts crypto.SignerOpts, can bool) {
	t.Helper()
	sig, err := k.Sign(nil, digest, opts)
	if !can {
		if !errors.Is(err, tpmkey.ErrNotSupported) || sig != nil {
			t.Errorf("%+v: %x, %v", opts, sig, err)
		}
		return
	}
	if err == nil {
		err = verifies20(k.Public(), digest, opts, sig)
	}
	if err != nil {
		t.Errorf("%+v: %v", opts, err)
	}
}

func verifies20(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts, sig []byte) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(p, digest, sig) {
			return errors.New("wrong signature")
		}
		return nil
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, pss.Hash, digest, sig, pss)
		}
		return rsa.VerifyPKCS1v15(p, opts.HashFunc(), digest, sig)
	}
	return fmt.Errorf("a %T", public)
}

// Each kind of RSA key signs what it can, and refuses the rest.
func TestSign20Kinds(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	const ssa, pss = tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS
	for name, c := range map[string]struct {
		kind  kind20
		pkcs1 func(h crypto.Hash) bool
		pss   func(h crypto.Hash, salt int) bool
	}{
		"signs and decrypts": {kind20{sign: true, decrypt: true}, func(crypto.Hash) bool { return true }, func(crypto.Hash, int) bool { return true }},
		"decrypts":           {kind20{decrypt: true}, func(crypto.Hash) bool { return true }, func(crypto.Hash, int) bool { return true }},
		"signs": {kind20{sign: true}, func(h crypto.Hash) bool { return inSWTPM(h) },
			func(h crypto.Hash, salt int) bool { return inSWTPM(h) && (salt <= 0 || salt == h.Size()) }},
		"RSASSA": {kind20{sign: true, scheme: ssa, hash: tpm2.TPMAlgSHA256}, func(h crypto.Hash) bool { return h == crypto.SHA256 }, func(crypto.Hash, int) bool { return false }},
		"RSAPSS": {kind20{sign: true, scheme: pss, hash: tpm2.TPMAlgSHA384}, func(crypto.Hash) bool { return false },
			func(h crypto.Hash, salt int) bool { return h == crypto.SHA384 && (salt <= 0 || salt == 48) }},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "signs and decrypts" {
				tpmtest.Long(t, tpmtest.Slow20)
			}
			k := loadKind(t, tpm, c.kind)
			for _, h := range hashes20 {
				digest := randomBytes(h.Size())
				wantSignature(t, k, digest, h, c.pkcs1(h))
				if h == crypto.MD5SHA1 {
					continue
				}
				for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 1, 20, 48, 256 - 2 - h.Size()} {
					wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: salt, Hash: h}, c.pss(h, salt))
				}
			}
			for _, n := range []int{1, 36, 245} {
				wantSignature(t, k, randomBytes(n), crypto.Hash(0), c.kind.decrypt)
			}
		})
	}
}

// inSWTPM tells whether libtpms 0.9 has a hash.
func inSWTPM(h crypto.Hash) bool {
	return h == crypto.SHA1 || h == crypto.SHA256 || h == crypto.SHA384 || h == crypto.SHA512
}

// EC keys sign digests of any hash, and of none.
func TestSign20Curves(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		kind kind20
		room int // for digests
	}{
		"P-256":            {kind20{sign: true, decrypt: true, curve: tpm2.TPMECCNistP256}, 1000},
		"P-384":            {kind20{sign: true, curve: tpm2.TPMECCNistP384}, 1000},
		"P-521":            {kind20{sign: true, curve: tpm2.TPMECCNistP521}, 64},
		"P-256 of SHA-512": {kind20{sign: true, curve: tpm2.TPMECCNistP256, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA512}, 1000},
		"P-384 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, 32},
		"P-521 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP521, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, 32},
		"P-384 of SHA-512": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA512}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kind.curve == tpm2.TPMECCNistP521 {
				tpmtest.Long(t, "a TPM is slow with P-521")
			}
			k := loadKind(t, tpm, c.kind)
			for _, h := range append([]crypto.Hash{crypto.BLAKE2b_512}, hashes20...) {
				wantSignature(t, k, randomBytes(h.Size()), h, h.Size() <= c.room)
				wantSignature(t, k, make([]byte, h.Size()), h, h.Size() <= c.room) // zero
			}
			for _, n := range []int{1, 31, 33, 47, 49, 63, 65, 66, 67, 100, 1000} {
				wantSignature(t, k, randomBytes(n), crypto.Hash(0), n <= c.room)
				wantSignature(t, k, bytes.Repeat([]byte{0xff}, n), crypto.Hash(0), n <= c.room) // above the order
			}
		})
	}
}
