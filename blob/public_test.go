package blob

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
)

const (
	null      = tpm2.TPMAlgNull
	signOnly  = uint32(pubarea.AttrUserWithAuth | pubarea.AttrSign)
	both      = signOnly | pubarea.AttrDecrypt
	decrypts  = uint32(pubarea.AttrUserWithAuth | pubarea.AttrDecrypt)
	noneAtAll = uint32(pubarea.AttrUserWithAuth)
)

// ecc makes the area of an ECC key with scheme NULL.
func ecc(attributes uint32, curve tpm2.TPMECCCurve, x, y []byte) []byte {
	return tpmtest.PublicArea(tpm2.TPMAlgECC, tpm2.TPMAlgSHA256, attributes, []byte{}, null, null, curve, null, x, y)
}

// rsaArea makes the area of an RSA key.
func rsaArea(attributes uint32, bits int, exponent uint32, modulus []byte, scheme ...any) []byte {
	if scheme == nil {
		scheme = []any{null}
	}
	fields := append([]any{tpm2.TPMAlgRSA, tpm2.TPMAlgSHA256, attributes, []byte{}, null}, scheme...)
	return tpmtest.PublicArea(append(fields, bits, exponent, modulus)...)
}

func ones(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

func TestUnsupported(t *testing.T) {
	sha256 := tpm2.TPMAlgSHA256
	digest := ones(32)
	for _, c := range []struct {
		name, want string
		area       []byte
	}{
		{"BN", "unsupported curve TPM_ECC_BN_P256; P-256, P-384 and P-521 are supported",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgECDAA, sha256, 0, tpm2.TPMECCBNP256, null, ones(32), ones(32))},
		{"SM2", "unsupported curve TPM_ECC_SM2_P256",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgSM2, tpm2.TPMAlgSM3256, tpm2.TPMECCSM2P256, null, ones(32), ones(32))},
		{"P-224", "unsupported curve TPM_ECC_NIST_P224", ecc(both, tpm2.TPMECCNistP224, ones(28), ones(28))},
		{"P-192", "unsupported curve TPM_ECC_NIST_P192", ecc(both, tpm2.TPMECCNistP192, ones(24), ones(24))},
		{"unknown curve", "unsupported curve TPM_ECC_CURVE 0x0999", ecc(both, 0x999, ones(3), nil)},
		{"RSA 512", "unsupported size of RSA keys, 512 bits", rsaArea(both, 512, 0, ones(64))},
		{"RSA 8192", "unsupported size of RSA keys, 8192 bits", rsaArea(both, 8192, 3, ones(1024))},
		{"RSA with a huge exponent", "unsupported public exponent 4294967295", rsaArea(both, 2048, 0xffffffff, ones(256))},
		{"HMAC", "unsupported type of key TPM_ALG_KEYEDHASH with TPM_ALG_HMAC",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, signOnly, []byte{}, tpm2.TPMAlgHMAC, sha256, digest)},
		{"XOR", "unsupported type of key TPM_ALG_KEYEDHASH with TPM_ALG_XOR",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, uint32(pubarea.AttrDecrypt), []byte{}, tpm2.TPMAlgXOR, sha256, tpm2.TPMAlgKDF1SP800108, digest)},
		{"derivation parent", "unsupported type of key TPM_ALG_KEYEDHASH",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, uint32(pubarea.AttrDecrypt|pubarea.AttrRestricted), []byte{}, tpm2.TPMAlgXOR, sha256, tpm2.TPMAlgKDF1SP800108, digest)},
		{"sealed", "unsupported use of sealed data as a key",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, noneAtAll, []byte{}, null, digest)},
		{"AES", "unsupported type of key TPM_ALG_SYMCIPHER",
			tpmtest.PublicArea(tpm2.TPMAlgSymCipher, sha256, both, []byte{}, tpm2.TPMAlgAES, 128, tpm2.TPMAlgCFB, digest)},
		{"unknown type", "unsupported type of key TPM_ALG_ID 0x00a1", tpmtest.PublicArea(0xa1, sha256, signOnly, []byte{}, 1, 2, 3)},
		{"unknown scheme", "unsupported algorithm TPM_ALG_ID 0x0999 in a key of type TPM_ALG_RSA",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, sha256, signOnly, []byte{}, null, 0x999, 2048, uint32(0), ones(256))},
		{"EdDSA", "unsupported algorithm TPM_ALG_EDDSA in a key of type TPM_ALG_ECC",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgEDDSA, sha256, tpm2.TPMECCCurve25519, null, ones(32), ones(32))},
		{"unknown cipher", "unsupported algorithm TPM_ALG_ID 0x0999 in a key of type TPM_ALG_SYMCIPHER",
			tpmtest.PublicArea(tpm2.TPMAlgSymCipher, sha256, both, []byte{}, 0x999, 128, 3, digest)},
		{"unknown name algorithm", "unsupported name algorithm TPM_ALG_ID 0x0999",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, 0x999, both, []byte{1, 2}, null, null, 2048, uint32(0), ones(256))},
		{"name algorithm without a hash in Go", "unsupported name algorithm TPM_ALG_SHA3_256",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, tpm2.TPMAlgSHA3256, both, []byte{}, null, null, 2048, uint32(0), ones(256))},
		{"no name algorithm", "unsupported name algorithm TPM_ALG_NULL",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, null, both, []byte{}, null, null, 2048, uint32(0), ones(256))},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := parseAs[*TSS2](tss2Of(oidTSS2, 3, isTrue, parentOwner, octets(c.area), octets([]byte{0, 1, 1})))
			if err != nil {
				t.Fatal(err)
			}
			err = k.Unsupported()
			if !errors.Is(err, ErrUnsupported) || !strings.HasPrefix(err.Error(), c.want) || k.PublicKey() != nil || cans(k) != "" {
				t.Errorf("%v; public key %v, can %q", err, k.PublicKey(), cans(k))
			}
		})
	}
}

func TestPublicDamaged(t *testing.T) {
	key := softwareECC(t, elliptic.P256())
	x, y := key.X.Bytes(), key.Y.Bytes()
	n := softwareRSA(t, 2048).N.Bytes()
	even := append(bytes.Clone(n[:255]), 2)
	sha256 := tpm2.TPMAlgSHA256
	for _, c := range []struct {
		name, want string
		area       []byte
	}{
		{"empty", "public area is empty", []byte{0, 0}},
		{"point not on the curve", "not a point of the curve TPM_ECC_NIST_P256", ecc(both, tpm2.TPMECCNistP256, x, x)},
		{"no point", "not a point of the curve", ecc(both, tpm2.TPMECCNistP256, nil, nil)},
		{"long coordinate", "x coordinate has 33 bytes", ecc(both, tpm2.TPMECCNistP256, append([]byte{0}, make([]byte, 32)...), y)},
		{"long coordinate of BN", "y coordinate has 33 bytes", ecc(both, tpm2.TPMECCBNP256, x, make([]byte, 33))},
		{"reserved attribute", "bits that TPM 2.0 does not define", ecc(both|1, tpm2.TPMECCNistP256, x, y)},
		{"another reserved attribute", "bits that TPM 2.0 does not define", ecc(both|1<<31, tpm2.TPMECCNistP256, x, y)},
		{"RSA scheme in an ECC key", "scheme is TPM_ALG_RSASSA", tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, both, []byte{}, null, tpm2.TPMAlgRSASSA, sha256, tpm2.TPMECCNistP256, null, x, y)},
		{"ECC scheme in an RSA key", "scheme is TPM_ALG_ECDSA", rsaArea(both, 2048, 0, n, tpm2.TPMAlgECDSA, sha256)},
		{"signature as kdf", "kdf is TPM_ALG_RSASSA", tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, both, []byte{}, null, null, tpm2.TPMECCNistP256, tpm2.TPMAlgRSASSA, sha256, x, y)},
		{"OAEP in a keyed hash", "scheme is TPM_ALG_OAEP", tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, signOnly, []byte{}, tpm2.TPMAlgOAEP, sha256, ones(32))},
		{"short policy", "authPolicy has 31 bytes", tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, signOnly, ones(31), null, ones(32))},
		{"more behind", "3 bytes too many", append(appendSized16(nil, append(bytes.Clone(ecc(both, tpm2.TPMECCNistP256, x, y)[2:]), 1, 2, 3)), nil...)},
		{"no modulus", "modulus has 0 bits", rsaArea(both, 2048, 0, nil)},
		{"short modulus", "modulus has 2040 bits, and keyBits says 2048", rsaArea(both, 2048, 0, n[:255])},
		{"modulus with zeros", "shorter than keyBits", rsaArea(both, 2048, 0, append([]byte{0}, n[:255]...))},
		{"even modulus", "even number", rsaArea(both, 2048, 0, even)},
		{"keyBits 0", "keyBits is 0", rsaArea(both, 0, 0, nil)},
		{"keyBits 2047", "keyBits is 2047", rsaArea(both, 2047, 0, n)},
		{"even exponent", "public exponent is 4", rsaArea(both, 2048, 4, n)},
		{"exponent 1", "public exponent is 1", rsaArea(both, 2048, 1, n)},
		{"cut", "needs", appendSized16(nil, ecc(both, tpm2.TPMECCNistP256, x, y)[2:40])},
	} {
		_, err := Parse(tss2Of(oidTSS2, 3, isTrue, parentOwner, octets(c.area), octets([]byte{0, 1, 1})))
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestShortCoordinates: zeros that a coordinate begins with are left out in one of a
// hundred files.
func TestShortCoordinates(t *testing.T) {
	for curve, of := range map[tpm2.TPMECCCurve]elliptic.Curve{
		tpm2.TPMECCNistP256: elliptic.P256(), tpm2.TPMECCNistP384: elliptic.P384(), tpm2.TPMECCNistP521: elliptic.P521(),
	} {
		short := 0
		for short < 3 {
			key := softwareECC(t, of)
			size := pubarea.Curves[curve].Size
			x, y := key.X.Bytes(), key.Y.Bytes()
			if len(x) < size || len(y) < size {
				short++
			}
			k := &TSS2{Public: ecc(both, curve, x, y), Private: []byte{0, 1, 1}, Parent: handleOwner}
			public, ok := k.PublicKey().(*ecdsa.PublicKey)
			if !ok || !public.Equal(&key.PublicKey) || pubarea.TPMT(k.Public) == nil || k.check() != nil {
				t.Errorf("%s, coordinates of %d and %d bytes: %v", pubarea.CurveSpec(curve), len(x), len(y), k.check())
			}
			padded := key.X.FillBytes(make([]byte, size))
			k.Public = ecc(both, curve, padded, y)
			if public := k.PublicKey(); public == nil || !key.PublicKey.Equal(public) {
				t.Errorf("%s, padded: %v", pubarea.CurveSpec(curve), public)
			}
		}
	}
}

func TestWhatKeysCan(t *testing.T) {
	n := softwareRSA(t, 2048).N.Bytes()
	key := softwareECC(t, elliptic.P256())
	x, y := key.X.Bytes(), key.Y.Bytes()
	sha256 := tpm2.TPMAlgSHA256
	eccWith := func(attributes uint32, scheme ...any) []byte {
		fields := append([]any{tpm2.TPMAlgECC, sha256, attributes, []byte{}, null}, scheme...)
		return tpmtest.PublicArea(append(fields, tpm2.TPMECCNistP256, null, x, y)...)
	}
	for _, c := range []struct {
		name, want string
		area       []byte
	}{
		{"RSA, both", "sign decrypt", rsaArea(both, 2048, 0, n)},
		{"RSA, sign", "sign", rsaArea(signOnly, 2048, 0, n)},
		{"RSA, decrypt", "sign decrypt", rsaArea(decrypts, 2048, 0, n)},
		{"RSA, neither", "", rsaArea(0, 2048, 0, n)},
		{"RSASSA, restricted", "sign", rsaArea(signOnly|pubarea.AttrRestricted, 2048, 0, n, tpm2.TPMAlgRSASSA, sha256)},
		{"RSAPSS, restricted", "sign", rsaArea(signOnly|pubarea.AttrRestricted, 2048, 0, n, tpm2.TPMAlgRSAPSS, sha256)},
		{"ECDSA, restricted", "sign", eccWith(signOnly|pubarea.AttrRestricted, tpm2.TPMAlgECDSA, sha256)},
		{"ECDAA, restricted", "", eccWith(signOnly|pubarea.AttrRestricted, tpm2.TPMAlgECDAA, sha256, 0)},
		{"RSA, restricted, no scheme", "", rsaArea(signOnly|pubarea.AttrRestricted, 2048, 0, n)},
		{"RSA, certificates only", "", rsaArea(signOnly|pubarea.AttrX509Sign, 2048, 0, n)},
		{"RSA, neither userWithAuth nor a policy", "", rsaArea(pubarea.AttrSign|pubarea.AttrDecrypt, 2048, 0, n)},
		{"RSA, a policy", "sign", tpmtest.PublicArea(tpm2.TPMAlgRSA, sha256, uint32(pubarea.AttrSign), ones(32), null, null, 2048, uint32(0), n)},
		{"RSASSA", "sign", rsaArea(signOnly, 2048, 0, n, tpm2.TPMAlgRSASSA, sha256)},
		{"RSAPSS", "sign", rsaArea(signOnly, 2048, 0, n, tpm2.TPMAlgRSAPSS, sha256)},
		{"OAEP", "decrypt", rsaArea(decrypts, 2048, 0, n, tpm2.TPMAlgOAEP, sha256)},
		{"RSAES", "decrypt", rsaArea(decrypts, 2048, 0, n, tpm2.TPMAlgRSAES)},
		{"ECC, both", "sign agree", eccWith(both, null)},
		{"ECC, sign", "sign", eccWith(signOnly, null)},
		{"ECC, neither userWithAuth nor a policy", "", eccWith(pubarea.AttrSign|pubarea.AttrDecrypt, null)},
		{"ECDSA", "sign", eccWith(signOnly, tpm2.TPMAlgECDSA, sha256)},
		{"ECDH", "agree", eccWith(decrypts, tpm2.TPMAlgECDH, sha256)},
		{"EC Schnorr", "", eccWith(signOnly, tpm2.TPMAlgECSchnorr, sha256)},
		{"ECC, storage key", "", tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, uint32(pubarea.AttrDecrypt|pubarea.AttrRestricted), []byte{}, tpm2.TPMAlgAES, 128, tpm2.TPMAlgCFB, null, tpm2.TPMECCNistP256, null, x, y)},
	} {
		k, err := parseAs[*TSS2](tss2Of(oidTSS2, 3, isTrue, parentOwner, octets(c.area), octets([]byte{0, 1, 1})))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := cans(k); got != c.want {
			t.Errorf("%s: can %q, want %q", c.name, got, c.want)
		}
	}
	k := &TSS2{Public: rsaArea(both, 2048, 3, n)}
	if public, ok := k.PublicKey().(*rsa.PublicKey); !ok || public.E != 3 {
		t.Errorf("exponent 3: %v", k.PublicKey())
	}
}

func TestNeedsSecret(t *testing.T) {
	policy := ones(32)
	area := func(attributes uint32, policy []byte) []byte {
		return tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, tpm2.TPMAlgSHA256, attributes, policy, null, ones(32))
	}
	pcr, value := PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPCR)}, PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthValue)}
	password, secret := PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPassword)}, PolicyCommand{Code: uint32(tpm2.TPMCCPolicySecret)}
	authorize := PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthorize)}
	signed := func(c ...PolicyCommand) []AuthPolicy {
		return []AuthPolicy{{Policy: []PolicyCommand{pcr}}, {Policy: c}}
	}
	for _, c := range []struct {
		name string
		file TSS2
		want bool
	}{
		{"no policy", TSS2{Public: area(pubarea.AttrUserWithAuth, nil)}, true},
		{"emptyAuth", TSS2{Public: area(pubarea.AttrUserWithAuth, nil), EmptyAuth: true}, false},
		{"emptyAuth, policy with secret", TSS2{Public: area(0, policy), EmptyAuth: true, Policy: []PolicyCommand{value}}, false},
		{"policy or secret", TSS2{Public: area(pubarea.AttrUserWithAuth, policy), Policy: []PolicyCommand{pcr}}, true},
		{"PCRs alone", TSS2{Public: area(0, policy), Policy: []PolicyCommand{pcr}}, false},
		{"PCRs and secret", TSS2{Public: area(0, policy), Policy: []PolicyCommand{pcr, value}}, true},
		{"PCRs and password", TSS2{Public: area(0, policy), Policy: []PolicyCommand{pcr, password}}, true},
		{"another's secret", TSS2{Public: area(0, policy), Policy: []PolicyCommand{secret}}, true},
		{"policy not in the file", TSS2{Public: area(0, policy)}, true},
		{"policy not in the key", TSS2{Public: area(0, nil), Policy: []PolicyCommand{pcr}}, true},
		{"signed, PCRs", TSS2{Public: area(0, policy), Policy: []PolicyCommand{authorize}, AuthPolicy: signed(pcr, authorize)}, false},
		{"signed, secret in one", TSS2{Public: area(0, policy), Policy: []PolicyCommand{authorize}, AuthPolicy: signed(value, authorize)}, true},
		{"damaged", TSS2{}, true},
	} {
		k := &c.file
		if got := k.NeedsSecret(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
