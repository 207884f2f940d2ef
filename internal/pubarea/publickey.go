package pubarea

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// defaultExponent is the RSA exponent that 0 stands for. TPM 2.0 Library Part 2, section 12.2.3.5
// (TPMS_RSA_PARMS).
const defaultExponent = 65537

// Attributes of objects. TPM 2.0 Library Part 2, section 8.3 (TPMA_OBJECT).
const (
	AttrFixedTPM             = 1 << 1
	AttrSTClear              = 1 << 2
	AttrFixedParent          = 1 << 4
	AttrSensitiveDataOrigin  = 1 << 5
	AttrUserWithAuth         = 1 << 6
	AttrAdminWithPolicy      = 1 << 7
	AttrFirmwareLimited      = 1 << 8
	AttrSVNLimited           = 1 << 9
	AttrNoDA                 = 1 << 10
	AttrEncryptedDuplication = 1 << 11
	AttrRestricted           = 1 << 16
	AttrDecrypt              = 1 << 17
	AttrSign                 = 1 << 18
	AttrX509Sign             = 1 << 19

	AttrAll = AttrFixedTPM | AttrSTClear | AttrFixedParent | AttrSensitiveDataOrigin | AttrUserWithAuth |
		AttrAdminWithPolicy | AttrFirmwareLimited | AttrSVNLimited | AttrNoDA | AttrEncryptedDuplication |
		AttrRestricted | AttrDecrypt | AttrSign | AttrX509Sign
)

// Has reports whether the object has all these attributes.
func (p *Area) Has(attributes uint32) bool { return p.Attributes&attributes == attributes }

// AttributeNames returns the specification's names of the attributes, in the order of their bits.
func (p *Area) AttributeNames() []string {
	var names []string
	for _, a := range []struct {
		bit  uint32
		name string
	}{
		{AttrFixedTPM, "fixedTPM"},
		{AttrSTClear, "stClear"},
		{AttrFixedParent, "fixedParent"},
		{AttrSensitiveDataOrigin, "sensitiveDataOrigin"},
		{AttrUserWithAuth, "userWithAuth"},
		{AttrAdminWithPolicy, "adminWithPolicy"},
		{AttrFirmwareLimited, "firmwareLimited"},
		{AttrSVNLimited, "svnLimited"},
		{AttrNoDA, "noDA"},
		{AttrEncryptedDuplication, "encryptedDuplication"},
		{AttrRestricted, "restricted"},
		{AttrDecrypt, "decrypt"},
		{AttrSign, "sign"},
		{AttrX509Sign, "x509sign"},
	} {
		if p.Has(a.bit) {
			names = append(names, a.name)
		}
	}
	if names == nil {
		return []string{"none"}
	}
	return names
}

// check returns an error if p contradicts the specification or itself.
func (p *Area) check() error {
	if extra := p.Attributes &^ AttrAll; extra != 0 {
		return damaged("objectAttributes is 0x%08x, with bits that TPM 2.0 does not define", p.Attributes)
	}
	if size, known := HashSizes[p.NameAlg]; known && len(p.AuthPolicy) != 0 && len(p.AuthPolicy) != size {
		return damaged("authPolicy has %d bytes, and a digest of %s has %d", len(p.AuthPolicy), AlgSpec(p.NameAlg), size)
	}
	if p.Unknown != "" {
		return nil
	}
	switch p.Alg {
	case tpm2.TPMAlgRSA:
		return p.checkRSA()
	case tpm2.TPMAlgECC:
		return p.checkECC()
	case tpm2.TPMAlgKeyedHash:
		return p.checkScheme(tpm2.TPMAlgHMAC, tpm2.TPMAlgXOR)
	}
	return nil
}

// checkScheme checks that the scheme is NULL or one of schemes.
func (p *Area) checkScheme(schemes ...tpm2.TPMAlgID) error {
	if p.Scheme.Alg != tpm2.TPMAlgNull && !slices.Contains(schemes, p.Scheme.Alg) {
		return damaged("scheme is %s, which keys of type %s do not have", AlgSpec(p.Scheme.Alg), AlgSpec(p.Alg))
	}
	return nil
}

func (p *Area) checkRSA() error {
	m := p.Modulus
	switch {
	case p.KeyBits == 0 || p.KeyBits%8 != 0:
		return damaged("keyBits is %d, and RSA keys of TPM 2.0 have whole bytes", p.KeyBits)
	case len(m) != int(p.KeyBits/8):
		return damaged("modulus has %d bits, and keyBits says %d", 8*len(m), p.KeyBits)
	case m[0]&0x80 == 0:
		return damaged("modulus is shorter than keyBits says")
	case m[len(m)-1]&1 == 0:
		return damaged("modulus is an even number, which no RSA key has")
	case p.Exponent != 0 && (p.Exponent < 3 || p.Exponent&1 == 0):
		return damaged("public exponent is %d, and those of RSA keys are odd numbers from 3 on", p.Exponent)
	}
	return p.checkScheme(tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP)
}

func (p *Area) checkECC() error {
	for i, name := range []string{"x", "y"} {
		n := len(p.Point[i])
		if known, ok := Curves[p.Curve]; ok && n > known.Size {
			return damaged("%s coordinate has %d bytes, and those of %s have %d", name, n, CurveSpec(p.Curve), known.Size)
		}
	}
	switch p.KDF.Alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgMGF1, tpm2.TPMAlgKDF1SP80056A, tpm2.TPMAlgKDF2, tpm2.TPMAlgKDF1SP800108:
	default:
		return damaged("kdf is %s, which is not a key derivation function", AlgSpec(p.KDF.Alg))
	}
	if _, ok := goCurves[p.Curve]; ok {
		if _, err := p.ecdh(); err != nil {
			return err
		}
	}
	return p.checkScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgECDH, tpm2.TPMAlgECDAA, tpm2.TPMAlgSM2,
		tpm2.TPMAlgECSchnorr, tpm2.TPMAlgECMQV)
}

// goCurves are the curves that this project supports.
var goCurves = map[tpm2.TPMECCCurve]struct {
	ecdh     ecdh.Curve
	elliptic elliptic.Curve
}{
	tpm2.TPMECCNistP256: {ecdh.P256(), elliptic.P256()},
	tpm2.TPMECCNistP384: {ecdh.P384(), elliptic.P384()},
	tpm2.TPMECCNistP521: {ecdh.P521(), elliptic.P521()},
}

// ecdh returns the point of a key on one of goCurves. It pads the coordinates, because files may
// omit leading zeros.
func (p *Area) ecdh() (*ecdh.PublicKey, error) {
	size := Curves[p.Curve].Size
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed
	copy(point[1+size-len(p.Point[0]):], p.Point[0])
	copy(point[1+2*size-len(p.Point[1]):], p.Point[1])
	public, err := goCurves[p.Curve].ecdh.NewPublicKey(point)
	if err != nil {
		return nil, damaged("the public key is not a point of the curve %s", CurveSpec(p.Curve))
	}
	return public, nil
}

// PublicKey returns the public key, nil if Unsupported returns an error.
func (p *Area) PublicKey() crypto.PublicKey {
	switch {
	case p.Unsupported() != nil:
		return nil
	case p.Alg == tpm2.TPMAlgRSA:
		e := int(p.Exponent)
		if e == 0 {
			e = defaultExponent
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(p.Modulus), E: e}
	}
	return &ecdsa.PublicKey{
		Curve: goCurves[p.Curve].elliptic,
		X:     new(big.Int).SetBytes(p.Point[0]),
		Y:     new(big.Int).SetBytes(p.Point[1]),
	}
}

// ErrUnsupported is blob.ErrUnsupported.
var ErrUnsupported = errors.New("unsupported")

// Unsupported returns why this project does not support the key, nil if it does. The error wraps
// ErrUnsupported.
func (p *Area) Unsupported() error {
	_, noHash := p.NameAlg.Hash() // go-tpm has neither SHA-3 nor SM3
	switch {
	case noHash != nil:
		return fmt.Errorf("%w name algorithm %s", ErrUnsupported, AlgSpec(p.NameAlg))
	case p.Unknown == AlgSpec(p.Alg):
		return fmt.Errorf("%w type of key %s", ErrUnsupported, p.Unknown)
	case p.Unknown != "":
		return fmt.Errorf("%w algorithm %s in a key of type %s", ErrUnsupported, p.Unknown, AlgSpec(p.Alg))
	case p.Alg == tpm2.TPMAlgRSA && (p.KeyBits < 1024 || p.KeyBits > 4096):
		return fmt.Errorf("%w size of RSA keys, %d bits; those of 1024 to 4096 bits are supported", ErrUnsupported, p.KeyBits)
	case p.Alg == tpm2.TPMAlgRSA && p.Exponent > math.MaxInt32:
		return fmt.Errorf("%w public exponent %d; the largest supported is %d", ErrUnsupported, p.Exponent, math.MaxInt32)
	case p.Alg == tpm2.TPMAlgRSA:
		return nil
	case p.Alg == tpm2.TPMAlgECC:
		if _, ok := goCurves[p.Curve]; !ok {
			return fmt.Errorf("%w curve %s; P-256, P-384 and P-521 are supported", ErrUnsupported, CurveSpec(p.Curve))
		}
		return nil
	case p.Alg == tpm2.TPMAlgKeyedHash && p.Sealed():
		return fmt.Errorf("%w use of sealed data as a key", ErrUnsupported)
	case p.Alg == tpm2.TPMAlgKeyedHash:
		return fmt.Errorf("%w type of key %s with %s; RSA and ECC are supported", ErrUnsupported, AlgSpec(p.Alg), AlgSpec(p.Scheme.Alg))
	}
	return fmt.Errorf("%w type of key %s; RSA and ECC are supported", ErrUnsupported, AlgSpec(p.Alg))
}

// Sealed reports whether the object is sealed data. TPM 2.0 Library Part 3, section 12.7
// (TPM2_Unseal).
func (p *Area) Sealed() bool {
	return p.Alg == tpm2.TPMAlgKeyedHash && p.Unknown == "" && p.Attributes&(AttrSign|AttrDecrypt|AttrRestricted) == 0
}
