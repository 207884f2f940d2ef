package blob

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

// The attributes that objects of a TPM 2.0 have.
//
// TPM 2.0 Library Part 2, section 8.3 (TPMA_OBJECT)
const (
	attrFixedTPM             = 1 << 1
	attrSTClear              = 1 << 2
	attrFixedParent          = 1 << 4
	attrSensitiveDataOrigin  = 1 << 5
	attrUserWithAuth         = 1 << 6
	attrAdminWithPolicy      = 1 << 7
	attrFirmwareLimited      = 1 << 8
	attrSVNLimited           = 1 << 9
	attrNoDA                 = 1 << 10
	attrEncryptedDuplication = 1 << 11
	attrRestricted           = 1 << 16
	attrDecrypt              = 1 << 17
	attrSign                 = 1 << 18
	attrX509Sign             = 1 << 19

	attrAll = attrFixedTPM | attrSTClear | attrFixedParent | attrSensitiveDataOrigin | attrUserWithAuth |
		attrAdminWithPolicy | attrFirmwareLimited | attrSVNLimited | attrNoDA | attrEncryptedDuplication |
		attrRestricted | attrDecrypt | attrSign | attrX509Sign
)

func (p *publicArea) has(attributes uint32) bool { return p.attributes&attributes == attributes }

// check tells what in p contradicts the specification or itself.
func (p *publicArea) check() error {
	if extra := p.attributes &^ attrAll; extra != 0 {
		return damaged("objectAttributes is 0x%08x, with bits that TPM 2.0 does not know", p.attributes)
	}
	if size, known := hashSizes[p.nameAlg]; known && len(p.authPolicy) != 0 && len(p.authPolicy) != size {
		return damaged("authPolicy has %d bytes, and a digest of %s has %d", len(p.authPolicy), algSpec(p.nameAlg), size)
	}
	if p.unknown != "" {
		return nil
	}
	switch p.alg {
	case tpm2.TPMAlgRSA:
		return p.checkRSA()
	case tpm2.TPMAlgECC:
		return p.checkECC()
	case tpm2.TPMAlgKeyedHash:
		return p.checkScheme(tpm2.TPMAlgHMAC, tpm2.TPMAlgXOR)
	}
	return nil
}

// checkScheme tells whether the scheme is NULL or one of some.
func (p *publicArea) checkScheme(schemes ...tpm2.TPMAlgID) error {
	if p.scheme.alg != tpm2.TPMAlgNull && !slices.Contains(schemes, p.scheme.alg) {
		return damaged("scheme is %s, which keys of type %s do not have", algSpec(p.scheme.alg), algSpec(p.alg))
	}
	return nil
}

func (p *publicArea) checkRSA() error {
	m := p.modulus
	switch {
	case p.keyBits == 0 || p.keyBits%8 != 0:
		return damaged("keyBits is %d, and RSA keys of TPM 2.0 have whole bytes", p.keyBits)
	case len(m) != int(p.keyBits/8):
		return damaged("modulus has %d bytes, and keyBits says %d", len(m), p.keyBits/8)
	case m[0]&0x80 == 0:
		return damaged("modulus is shorter than keyBits says")
	case m[len(m)-1]&1 == 0:
		return damaged("modulus is an even number, which no RSA key has")
	case p.exponent != 0 && (p.exponent < 3 || p.exponent&1 == 0):
		return damaged("public exponent is %d, and those of RSA keys are odd numbers from 3 on", p.exponent)
	}
	return p.checkScheme(tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP)
}

func (p *publicArea) checkECC() error {
	for i, name := range []string{"x", "y"} {
		n := len(p.point[i])
		if known, ok := curves[p.curve]; ok && n > known.size {
			return damaged("%s coordinate has %d bytes, and those of %s have %d", name, n, curveSpec(p.curve), known.size)
		}
	}
	switch p.kdf.alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgMGF1, tpm2.TPMAlgKDF1SP80056A, tpm2.TPMAlgKDF2, tpm2.TPMAlgKDF1SP800108:
	default:
		return damaged("kdf is %s, which derives no keys", algSpec(p.kdf.alg))
	}
	if _, ok := goCurves[p.curve]; ok {
		if _, err := p.ecdh(); err != nil {
			return err
		}
	}
	return p.checkScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgECDH, tpm2.TPMAlgECDAA, tpm2.TPMAlgSM2,
		tpm2.TPMAlgECSchnorr, tpm2.TPMAlgECMQV)
}

// goCurves are the curves whose keys this project uses.
var goCurves = map[tpm2.TPMECCCurve]struct {
	ecdh     ecdh.Curve
	elliptic elliptic.Curve
}{
	tpm2.TPMECCNistP256: {ecdh.P256(), elliptic.P256()},
	tpm2.TPMECCNistP384: {ecdh.P384(), elliptic.P384()},
	tpm2.TPMECCNistP521: {ecdh.P521(), elliptic.P521()},
}

// ecdh returns the point of a key on one of goCurves. Zeros that coordinates begin
// with are often left out in files.
func (p *publicArea) ecdh() (*ecdh.PublicKey, error) {
	size := curves[p.curve].size
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed
	copy(point[1+size-len(p.point[0]):], p.point[0])
	copy(point[1+2*size-len(p.point[1]):], p.point[1])
	public, err := goCurves[p.curve].ecdh.NewPublicKey(point)
	if err != nil {
		return nil, damaged("the public key is no point of the curve %s", curveSpec(p.curve))
	}
	return public, nil
}

// publicKey returns the key; nil for one that unsupported tells of.
func (p *publicArea) publicKey() crypto.PublicKey {
	switch {
	case p.unsupported() != nil:
		return nil
	case p.alg == tpm2.TPMAlgRSA:
		e := int(p.exponent)
		if e == 0 {
			e = defaultExponent
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(p.modulus), E: e}
	}
	return &ecdsa.PublicKey{
		Curve: goCurves[p.curve].elliptic,
		X:     new(big.Int).SetBytes(p.point[0]),
		Y:     new(big.Int).SetBytes(p.point[1]),
	}
}

// ErrUnsupported is wrapped by errors about a key of a TPM 2.0 that is sound, and
// that this project does nothing with. Their texts name what is not supported.
var ErrUnsupported = errors.New("unsupported")

// unsupported tells what of the area this project has no use for.
func (p *publicArea) unsupported() error {
	switch {
	case hashSizes[p.nameAlg] == 0:
		return fmt.Errorf("%w name algorithm %s", ErrUnsupported, algSpec(p.nameAlg))
	case p.unknown == algSpec(p.alg):
		return fmt.Errorf("%w type of key %s", ErrUnsupported, p.unknown)
	case p.unknown != "":
		return fmt.Errorf("%w algorithm %s in a key of type %s", ErrUnsupported, p.unknown, algSpec(p.alg))
	case p.alg == tpm2.TPMAlgRSA && (p.keyBits < 1024 || p.keyBits > 4096):
		return fmt.Errorf("%w size of RSA keys, %d bits; those of 1024 to 4096 bits are supported", ErrUnsupported, p.keyBits)
	case p.alg == tpm2.TPMAlgRSA && p.exponent > math.MaxInt32:
		return fmt.Errorf("%w public exponent %d; the largest supported is %d", ErrUnsupported, p.exponent, math.MaxInt32)
	case p.alg == tpm2.TPMAlgRSA:
		return nil
	case p.alg == tpm2.TPMAlgECC:
		if _, ok := goCurves[p.curve]; !ok {
			return fmt.Errorf("%w curve %s; P-256, P-384 and P-521 are supported", ErrUnsupported, curveSpec(p.curve))
		}
		return nil
	case p.alg == tpm2.TPMAlgKeyedHash && p.sealed():
		return fmt.Errorf("%w use of sealed data as a key", ErrUnsupported)
	case p.alg == tpm2.TPMAlgKeyedHash:
		return fmt.Errorf("%w type of key %s with %s; RSA and ECC are supported", ErrUnsupported, algSpec(p.alg), algSpec(p.scheme.alg))
	}
	return fmt.Errorf("%w type of key %s; RSA and ECC are supported", ErrUnsupported, algSpec(p.alg))
}

// sealed reports whether the object is data, not a key.
//
// TPM 2.0 Library Part 3, section 12.7 (TPM2_Unseal)
func (p *publicArea) sealed() bool {
	return p.alg == tpm2.TPMAlgKeyedHash && p.unknown == "" && p.attributes&(attrSign|attrDecrypt|attrRestricted) == 0
}
