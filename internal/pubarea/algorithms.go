package pubarea

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// algorithms are the names of algorithms in public areas: the specification's without TPM_ALG_,
// and the common one. TPM 2.0 Library Part 2, section 6.3 (TPM_ALG_ID).
var algorithms = map[tpm2.TPMAlgID][2]string{
	tpm2.TPMAlgRSA:          {"RSA", "RSA"},
	tpm2.TPMAlgTDES:         {"TDES", "Triple-DES"},
	tpm2.TPMAlgSHA1:         {"SHA1", "SHA-1"},
	tpm2.TPMAlgHMAC:         {"HMAC", "HMAC"},
	tpm2.TPMAlgAES:          {"AES", "AES"},
	tpm2.TPMAlgMGF1:         {"MGF1", "MGF1"},
	tpm2.TPMAlgKeyedHash:    {"KEYEDHASH", "keyed hash"},
	tpm2.TPMAlgXOR:          {"XOR", "XOR"},
	tpm2.TPMAlgSHA256:       {"SHA256", "SHA-256"},
	tpm2.TPMAlgSHA384:       {"SHA384", "SHA-384"},
	tpm2.TPMAlgSHA512:       {"SHA512", "SHA-512"},
	tpm2.TPMAlgNull:         {"NULL", "none"},
	tpm2.TPMAlgSM3256:       {"SM3_256", "SM3"},
	tpm2.TPMAlgSM4:          {"SM4", "SM4"},
	tpm2.TPMAlgRSASSA:       {"RSASSA", "PKCS #1 v1.5 signatures"},
	tpm2.TPMAlgRSAES:        {"RSAES", "PKCS #1 v1.5 encryption"},
	tpm2.TPMAlgRSAPSS:       {"RSAPSS", "PSS signatures"},
	tpm2.TPMAlgOAEP:         {"OAEP", "OAEP encryption"},
	tpm2.TPMAlgECDSA:        {"ECDSA", "ECDSA"},
	tpm2.TPMAlgECDH:         {"ECDH", "ECDH"},
	tpm2.TPMAlgECDAA:        {"ECDAA", "ECDAA"},
	tpm2.TPMAlgSM2:          {"SM2", "SM2"},
	tpm2.TPMAlgECSchnorr:    {"ECSCHNORR", "EC Schnorr"},
	tpm2.TPMAlgECMQV:        {"ECMQV", "ECMQV"},
	tpm2.TPMAlgKDF1SP80056A: {"KDF1_SP800_56A", "KDF1 of SP 800-56A"},
	tpm2.TPMAlgKDF2:         {"KDF2", "KDF2"},
	tpm2.TPMAlgKDF1SP800108: {"KDF1_SP800_108", "KDF1 of SP 800-108"},
	tpm2.TPMAlgECC:          {"ECC", "ECC"},
	tpm2.TPMAlgSymCipher:    {"SYMCIPHER", "symmetric cipher"},
	tpm2.TPMAlgCamellia:     {"CAMELLIA", "Camellia"},
	tpm2.TPMAlgSHA3256:      {"SHA3_256", "SHA3-256"},
	tpm2.TPMAlgSHA3384:      {"SHA3_384", "SHA3-384"},
	tpm2.TPMAlgSHA3512:      {"SHA3_512", "SHA3-512"},
	tpm2.TPMAlgCMAC:         {"CMAC", "CMAC"},
	tpm2.TPMAlgCTR:          {"CTR", "CTR"},
	tpm2.TPMAlgOFB:          {"OFB", "OFB"},
	tpm2.TPMAlgCBC:          {"CBC", "CBC"},
	tpm2.TPMAlgCFB:          {"CFB", "CFB"},
	tpm2.TPMAlgECB:          {"ECB", "ECB"},
	tpm2.TPMAlgEDDSA:        {"EDDSA", "EdDSA"},
}

// AlgSpec returns the specification's name of an algorithm.
func AlgSpec(alg tpm2.TPMAlgID) string {
	if names, ok := algorithms[alg]; ok {
		return "TPM_ALG_" + names[0]
	}
	return fmt.Sprintf("TPM_ALG_ID 0x%04x", uint16(alg))
}

// AlgName returns the common name of an algorithm.
func AlgName(alg tpm2.TPMAlgID) string {
	if names, ok := algorithms[alg]; ok {
		return names[1]
	}
	return AlgSpec(alg)
}

// HashSizes are the digest sizes in bytes.
var HashSizes = map[tpm2.TPMAlgID]int{
	tpm2.TPMAlgSHA1:    20,
	tpm2.TPMAlgSHA256:  32,
	tpm2.TPMAlgSHA384:  48,
	tpm2.TPMAlgSHA512:  64,
	tpm2.TPMAlgSM3256:  32,
	tpm2.TPMAlgSHA3256: 32,
	tpm2.TPMAlgSHA3384: 48,
	tpm2.TPMAlgSHA3512: 64,
}

// A Curve is an elliptic curve of the specification.
type Curve struct {
	Spec string // name without TPM_ECC_
	Name string // common name
	Size int    // bytes of a coordinate
}

// Curves are the curves by number. TPM 2.0 Library Part 2, section 6.4 (TPM_ECC_CURVE).
var Curves = map[tpm2.TPMECCCurve]Curve{
	tpm2.TPMECCNistP192:        {"NIST_P192", "P-192", 24},
	tpm2.TPMECCNistP224:        {"NIST_P224", "P-224", 28},
	tpm2.TPMECCNistP256:        {"NIST_P256", "P-256", 32},
	tpm2.TPMECCNistP384:        {"NIST_P384", "P-384", 48},
	tpm2.TPMECCNistP521:        {"NIST_P521", "P-521", 66},
	tpm2.TPMECCBNP256:          {"BN_P256", "Barreto-Naehrig 256", 32},
	tpm2.TPMECCBNP638:          {"BN_P638", "Barreto-Naehrig 638", 80},
	tpm2.TPMECCSM2P256:         {"SM2_P256", "SM2", 32},
	tpm2.TPMECCBrainpoolP256R1: {"BP_P256_R1", "Brainpool P256r1", 32},
	tpm2.TPMECCBrainpoolP384R1: {"BP_P384_R1", "Brainpool P384r1", 48},
	tpm2.TPMECCBrainpoolP512R1: {"BP_P512_R1", "Brainpool P512r1", 64},
	tpm2.TPMECCCurve25519:      {"CURVE_25519", "Curve25519", 32},
	tpm2.TPMECCCurve448:        {"CURVE_448", "Curve448", 56},
}

// CurveSpec returns the specification's name of a curve.
func CurveSpec(c tpm2.TPMECCCurve) string {
	if known, ok := Curves[c]; ok {
		return "TPM_ECC_" + known.Spec
	}
	return fmt.Sprintf("TPM_ECC_CURVE 0x%04x", uint16(c))
}
