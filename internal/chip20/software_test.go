package chip20

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"sync"
	"testing"

	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha3"
	_ "crypto/sha512"

	"github.com/google/go-tpm/tpm2"
	_ "golang.org/x/crypto/ripemd160" //lint:ignore SA1019 a hash that crypto/rsa knows

	"maclef/blob"
)

// every are the hashes that crypto/rsa signs with PKCS#1 v1.5.
var every = []crypto.Hash{
	crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512,
	crypto.SHA512_224, crypto.SHA512_256, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384,
	crypto.SHA3_512, crypto.MD5SHA1, crypto.RIPEMD160,
}

// A software20 is a key outside of a TPM that does with plans what a TPM does.
type software20 struct {
	rsa     *rsa.PrivateKey
	ecdsa   *ecdsa.PrivateKey
	longest bool // its RSAPSS has the longest salt
	asked   int  // operations
}

var softwareRSA = sync.OnceValue(func() *rsa.PrivateKey { return mustMake(rsa.GenerateKey(rand.Reader, 2048)) })
var softwareRSA1024 = sync.OnceValue(func() *rsa.PrivateKey { return mustMake(rsa.GenerateKey(rand.Reader, 1024)) })

func mustMake[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}

func (k *software20) raw(block []byte) []byte {
	c := new(big.Int).SetBytes(block)
	if len(block) != k.rsa.Size() || c.Cmp(k.rsa.N) >= 0 {
		panic("a TPM refuses this")
	}
	return c.Exp(c, k.rsa.D, k.rsa.N).Bytes() // without zeros in front: some chips leave them out
}

// sign does what TPM2_Sign or TPM2_RSA_Decrypt do for a plan.
func (k *software20) sign(t testing.TB, s *signPlan) ([]byte, error) {
	t.Helper()
	k.asked++
	plan := s
	if plan.raw {
		return plan.finishRaw(k.raw(s.area))
	}
	details, err := plan.scheme.Details.RSASSA()
	if k.ecdsa != nil {
		details, err = plan.scheme.Details.ECDSA()
	} else if plan.scheme.Scheme == tpm2.TPMAlgRSAPSS {
		details, err = plan.scheme.Details.RSAPSS()
	}
	if err != nil {
		t.Fatal(err)
	}
	hash := hashOf(details.HashAlg)
	if len(s.area) != hash.Size() {
		t.Fatalf("a digest of %d bytes for %v", len(s.area), hash)
	}
	answer := tpm2.TPMTSignature{SigAlg: plan.scheme.Scheme}
	if k.ecdsa != nil {
		r, v := mustMake2(ecdsa.Sign(rand.Reader, k.ecdsa, s.area))
		answer.Signature = tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash: details.HashAlg, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: v.FillBytes(make([]byte, 66))},
		})
		return plan.finish(&answer)
	}
	var sig []byte
	if plan.scheme.Scheme == tpm2.TPMAlgRSASSA {
		sig, err = rsa.SignPKCS1v15(nil, k.rsa, hash, s.area)
	} else {
		salt := rsa.PSSSaltLengthEqualsHash
		if k.longest {
			salt = rsa.PSSSaltLengthAuto
		}
		sig, err = rsa.SignPSS(rand.Reader, k.rsa, hash, s.area, &rsa.PSSOptions{SaltLength: salt})
	}
	if err != nil {
		t.Fatal(err)
	}
	answer.Signature = tpm2.NewTPMUSignature(plan.scheme.Scheme, &tpm2.TPMSSignatureRSA{Hash: details.HashAlg, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: sig}})
	return plan.finish(&answer)
}

func mustMake2[T, U any](a T, b U, err error) (T, U) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// Attributes and schemes of keys.
const (
	signs = 1 << iota
	decrypts
	restricted
)

// file makes the public area of a key, without a private part.
func (k *software20) file(t testing.TB, attributes int, scheme keyScheme) *blob.TSS2 {
	t.Helper()
	area := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			SignEncrypt: attributes&signs != 0, Decrypt: attributes&decrypts != 0, Restricted: attributes&restricted != 0,
			UserWithAuth: true, FixedTPM: true, FixedParent: true,
		},
	}
	if k.rsa != nil {
		area.Type = tpm2.TPMAlgRSA
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: tpm2.TPMKeyBits(k.rsa.N.BitLen()), Exponent: uint32(k.rsa.E),
			Scheme: tpm2.TPMTRSAScheme{Scheme: scheme.alg, Details: schemeDetails(scheme)},
		})
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.rsa.N.Bytes()})
	} else {
		area.Type = tpm2.TPMAlgECC
		curve := map[elliptic.Curve]tpm2.TPMECCCurve{
			elliptic.P256(): tpm2.TPMECCNistP256, elliptic.P384(): tpm2.TPMECCNistP384, elliptic.P521(): tpm2.TPMECCNistP521,
		}[k.ecdsa.Curve]
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: curve, Scheme: tpm2.TPMTECCScheme{Scheme: scheme.alg, Details: schemeDetails(scheme)},
		})
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: k.ecdsa.X.Bytes()}, Y: tpm2.TPM2BECCParameter{Buffer: k.ecdsa.Y.Bytes()},
		})
	}
	return &blob.TSS2{EmptyAuth: true, Parent: 0x40000001, Public: tpm2.Marshal(tpm2.New2B(area))}
}

func schemeDetails(s keyScheme) tpm2.TPMUAsymScheme {
	switch s.alg {
	case tpm2.TPMAlgRSASSA:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSSigSchemeRSASSA{HashAlg: s.hash})
	case tpm2.TPMAlgRSAPSS:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: s.hash})
	case tpm2.TPMAlgRSAES:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSEncSchemeOAEP{HashAlg: s.hash})
	case tpm2.TPMAlgECDSA:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSSigSchemeECDSA{HashAlg: s.hash})
	case tpm2.TPMAlgECDAA:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSSchemeECDAA{HashAlg: tpm2.TPMAlgSHA256})
	case tpm2.TPMAlgECDH:
		return tpm2.NewTPMUAsymScheme(s.alg, &tpm2.TPMSKeySchemeECDH{HashAlg: s.hash})
	}
	return tpm2.TPMUAsymScheme{}
}

// able is what a chip with some hashes, or with the usual ones for none, can do with
// the key.
func (k *software20) able(t testing.TB, attributes int, scheme keyScheme, hashes ...tpm2.TPMAlgID) *keyOps {
	t.Helper()
	if scheme.alg == 0 {
		scheme.alg = tpm2.TPMAlgNull
	}
	var chip *features
	if hashes != nil {
		chip = &features{algorithms: map[tpm2.TPMAlgID]bool{}}
		for alg := range usualAlgorithms {
			chip.algorithms[alg] = hashOf(alg) == 0
		}
		for _, alg := range hashes {
			chip.algorithms[alg] = true
		}
	}
	able, err := newKeyOps(k.file(t, attributes, scheme), chip)
	if err != nil {
		t.Fatal(err)
	}
	return able
}

// someDigest is a random digest of a hash.
func someDigest(hash crypto.Hash) []byte {
	digest := make([]byte, hash.Size())
	rand.Read(digest)
	return digest
}

// signed plans a signature, makes and verifies it.
func (k *software20) signed(t testing.TB, able *keyOps, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	t.Helper()
	s, err := able.planSign(digest, opts)
	if err != nil {
		return nil, err
	}
	sig, err := k.sign(t, s)
	if err != nil {
		return nil, err
	}
	if err := s.verify(sig); err != nil {
		return nil, err
	}
	if k.asked == 1 {
		other := bytes.Clone(sig)
		other[len(other)-1] ^= 1
		if s.verify(other) == nil || s.verify(nil) == nil || s.verify(sig[1:]) == nil {
			t.Error("a wrong signature passes")
		}
	}
	return sig, nil
}
