package pemkey

import (
	"crypto/elliptic"
	"encoding/asn1"
	"fmt"
	"math"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/chip"
)

// explainDER says why Go cannot read a key from der: because of its curve, of its public exponent,
// of its algorithm, or because it is not a key.
func explainDER(der []byte) error {
	var seq, inner cryptobyte.String
	var version int
	var oid asn1.ObjectIdentifier
	s := cryptobyte.String(der)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1Integer(&version) {
		return errNoPrivateKey
	}
	switch {
	case seq.PeekASN1Tag(cbasn1.INTEGER): // PKCS#1
		return explainExponent(seq)
	case version == 1 && seq.SkipASN1(cbasn1.OCTET_STRING) && // SEC 1, with the curve after the key
		seq.ReadASN1(&inner, cbasn1.Tag(0).ContextSpecific().Constructed()):
		return explainCurve(inner)
	case version > 1 || !seq.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&oid) || !seq.PeekASN1Tag(cbasn1.OCTET_STRING):
		return errNoPrivateKey
	}
	switch {
	case oid.Equal(oidECPublicKey):
		return explainCurve(inner)
	case oid.Equal(oidPSS):
		return errPSSOnly
	case oid.Equal(oidRSA):
		var key cryptobyte.String
		if seq.ReadASN1(&inner, cbasn1.OCTET_STRING) && inner.ReadASN1(&key, cbasn1.SEQUENCE) && key.SkipASN1(cbasn1.INTEGER) {
			return explainExponent(key)
		}
		return errNoPrivateKey
	}
	return errNeitherRSANorEC
}

// explainExponent says why Go cannot read an RSA key, from its modulus on: its public exponent is
// too large, or it is damaged. RFC 8017, appendix A.1.2.
func explainExponent(key cryptobyte.String) error {
	n, e := new(big.Int), new(big.Int)
	if key.ReadASN1Integer(n) && key.ReadASN1Integer(e) && e.BitLen() > 31 && e.Cmp(n) < 0 {
		return fmt.Errorf("%w: the key's public exponent has %d bits, and a TPM takes 65537, some also others up to %d", chip.ErrNotWrappable, e.BitLen(), math.MaxInt32)
	}
	return errNoPrivateKey
}

// explainCurve says why Go cannot read a key with these ECParameters. RFC 5480, section 2.1.1.
func explainCurve(parameters cryptobyte.String) error {
	var curve asn1.ObjectIdentifier
	switch {
	case isExplicit(parameters):
		return errExplicitCurve
	case parameters.PeekASN1Tag(cbasn1.SEQUENCE):
		return errOtherCurve
	case !parameters.ReadASN1ObjectIdentifier(&curve), curve.Equal(oidP256), curve.Equal(oidP384), curve.Equal(oidP521):
		return errNoPrivateKey
	}
	return errOtherCurve
}

// isExplicit reports whether the parameters are the field and the order of P-256, P-384 or P-521.
// SEC 1, section C.2 (SpecifiedECDomain):
//
//	SEQUENCE { version INTEGER, field SEQUENCE { OBJECT IDENTIFIER, prime INTEGER },
//	  curve SEQUENCE, base OCTET STRING, order INTEGER, ... }
func isExplicit(parameters cryptobyte.String) bool {
	var all, field cryptobyte.String
	prime, order := new(big.Int), new(big.Int)
	if !parameters.ReadASN1(&all, cbasn1.SEQUENCE) || !all.SkipASN1(cbasn1.INTEGER) || !all.ReadASN1(&field, cbasn1.SEQUENCE) ||
		!field.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !field.ReadASN1Integer(prime) ||
		!all.SkipASN1(cbasn1.SEQUENCE) || !all.SkipASN1(cbasn1.OCTET_STRING) || !all.ReadASN1Integer(order) {
		return false
	}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if c.Params().P.Cmp(prime) == 0 && c.Params().N.Cmp(order) == 0 {
			return true
		}
	}
	return false
}

// Object identifiers: RFC 8017, appendices A.1 and A.2.3; RFC 5480, section 2.1.
var (
	oidRSA         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256        = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384        = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521        = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)
