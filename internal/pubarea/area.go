// Package pubarea parses public areas of TPM 2.0 objects, and names what they contain.
package pubarea

import (
	"bytes"

	"github.com/google/go-tpm/tpm2"
)

// An Area is a parsed TPMT_PUBLIC. It also holds algorithms that are missing in go-tpm, so that
// files with them can be described. TPM 2.0 Library Part 2, section 12.2.4 (TPMT_PUBLIC).
type Area struct {
	Alg        tpm2.TPMAlgID
	NameAlg    tpm2.TPMAlgID
	Attributes uint32
	AuthPolicy []byte

	Symmetric Symmetric // of a storage key, or the cipher of a SYMCIPHER key
	Scheme    Scheme
	KDF       Scheme
	KeyBits   uint16 // RSA
	Exponent  uint32 // RSA, as in the file: 0 means 65537
	Curve     tpm2.TPMECCCurve

	Modulus []byte    // RSA
	Point   [2][]byte // ECC: x and y, as in the file
	Unique  []byte    // other types: a digest

	// Unknown names an algorithm whose parameters have an unknown length. What follows it was not
	// parsed.
	Unknown string
}

// A Symmetric is a TPMT_SYM_DEF_OBJECT.
type Symmetric struct {
	Alg  tpm2.TPMAlgID
	Bits uint16
	Mode tpm2.TPMAlgID
}

// A Scheme is one of the TPMT_…_SCHEME structures.
type Scheme struct {
	Alg  tpm2.TPMAlgID
	Hash tpm2.TPMAlgID // TPM_ALG_NULL if the scheme has none
}

// Parse parses a TPM2B_PUBLIC that fills b. The error wraps ErrDamaged. The Area does not refer
// to b.
func Parse(b []byte) (*Area, error) {
	area, err := TPM2B(b, "public area")
	if err != nil {
		return nil, err
	}
	r := NewReader(area, ErrDamaged)
	p := &Area{
		Alg:        r.Alg("type"),
		NameAlg:    r.Alg("nameAlg"),
		Attributes: r.Uint32("objectAttributes"),
		AuthPolicy: r.Sized16("authPolicy"),
	}
	r.parameters(p)
	if p.Unknown == "" {
		r.unique(p)
	} else {
		r.s = nil
	}
	if err := r.End("TPMT_PUBLIC"); err != nil {
		return nil, err
	}
	return p, p.check()
}

// Useless reports whether no program can use the object: neither its secret nor a policy authorizes
// commands. TPM 2.0 Library Part 1, section 19.2 (Authorization Roles).
func (p *Area) Useless() bool { return !p.Has(AttrUserWithAuth) && len(p.AuthPolicy) == 0 }

// TPM2B returns the contents of a structure that has its size in front, a uint16, and fills b.
func TPM2B(b []byte, name string) ([]byte, error) {
	if len(b) < 2 {
		return nil, ShortError(ErrDamaged, name+" size", 2, len(b), 0)
	}
	size := int(b[0])<<8 | int(b[1])
	switch {
	case len(b)-2 < size:
		return nil, ShortError(ErrDamaged, name, uint64(size), len(b)-2, 2)
	case len(b)-2 > size:
		return nil, damaged("%d bytes too many after %s", len(b)-2-size, name)
	case size == 0:
		return nil, damaged("%s is empty", name)
	}
	return b[2:], nil
}

// parameters parses a TPMU_PUBLIC_PARMS. TPM 2.0 Library Part 2, section 12.2.3.7
// (TPMU_PUBLIC_PARMS).
func (r *Reader) parameters(p *Area) {
	none := Scheme{tpm2.TPMAlgNull, tpm2.TPMAlgNull}
	p.Symmetric.Alg, p.Scheme, p.KDF = tpm2.TPMAlgNull, none, none
	switch p.Alg {
	case tpm2.TPMAlgRSA:
		r.symmetric(p)
		r.scheme(p, &p.Scheme, "scheme")
		p.KeyBits = r.Uint16("keyBits")
		p.Exponent = r.Uint32("exponent")
	case tpm2.TPMAlgECC:
		r.symmetric(p)
		r.scheme(p, &p.Scheme, "scheme")
		p.Curve = tpm2.TPMECCCurve(r.Uint16("curveID"))
		r.scheme(p, &p.KDF, "kdf")
	case tpm2.TPMAlgKeyedHash:
		r.scheme(p, &p.Scheme, "scheme")
	case tpm2.TPMAlgSymCipher:
		r.symmetric(p)
	default:
		p.Unknown = AlgSpec(p.Alg)
	}
}

// symmetric parses a TPMT_SYM_DEF_OBJECT. TPM 2.0 Library Part 2, section 11.1.7
// (TPMT_SYM_DEF_OBJECT).
func (r *Reader) symmetric(p *Area) {
	p.Symmetric.Alg = r.Alg("symmetric algorithm")
	switch p.Symmetric.Alg {
	case tpm2.TPMAlgNull:
	case tpm2.TPMAlgAES, tpm2.TPMAlgTDES, tpm2.TPMAlgSM4, tpm2.TPMAlgCamellia:
		p.Symmetric.Bits = r.Uint16("symmetric keyBits")
		p.Symmetric.Mode = r.Alg("symmetric mode")
	default:
		p.Unknown = AlgSpec(p.Symmetric.Alg)
	}
}

// scheme parses a TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KEYEDHASH_SCHEME or TPMT_KDF_SCHEME,
// which have the same form. TPM 2.0 Library Part 2, sections 11.1.22, 11.2.3 and 11.2.4
func (r *Reader) scheme(p *Area, s *Scheme, field string) {
	if p.Unknown != "" {
		return
	}
	*s = Scheme{r.Alg(field), tpm2.TPMAlgNull}
	switch s.Alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES:
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgOAEP, tpm2.TPMAlgECDSA, tpm2.TPMAlgECDH,
		tpm2.TPMAlgSM2, tpm2.TPMAlgECSchnorr, tpm2.TPMAlgECMQV, tpm2.TPMAlgHMAC,
		tpm2.TPMAlgMGF1, tpm2.TPMAlgKDF1SP80056A, tpm2.TPMAlgKDF2, tpm2.TPMAlgKDF1SP800108:
		s.Hash = r.Alg(field + " hash")
	case tpm2.TPMAlgECDAA, tpm2.TPMAlgXOR: // also a count (ECDAA) or a KDF (XOR)
		s.Hash = r.Alg(field + " hash")
		r.Uint16(field + " details")
	default:
		if r.Err == nil {
			p.Unknown = AlgSpec(s.Alg)
		}
	}
}

// unique parses a TPMU_PUBLIC_ID. TPM 2.0 Library Part 2, section 12.2.3.2 (TPMU_PUBLIC_ID).
func (r *Reader) unique(p *Area) {
	switch p.Alg {
	case tpm2.TPMAlgRSA:
		p.Modulus = r.Sized16("modulus")
	case tpm2.TPMAlgECC:
		p.Point = [2][]byte{r.Sized16("x coordinate"), r.Sized16("y coordinate")}
	default:
		p.Unique = r.Sized16("unique")
	}
}

// TPMT unmarshals a TPM2B_PUBLIC with go-tpm. It returns a new value each time, and nil if Parse
// returns an error or go-tpm does not know an algorithm.
func TPMT(public []byte) *tpm2.TPMTPublic {
	if _, err := Parse(public); err != nil {
		return nil
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public[2:])
	if err != nil || !bytes.Equal(tpm2.Marshal(area), public[2:]) {
		return nil
	}
	return area
}

// SetRSA makes area that of an RSA key; of a template, n is nil.
func SetRSA(area *tpm2.TPMTPublic, bits tpm2.TPMKeyBits, exponent uint32, n []byte) {
	area.Type = tpm2.TPMAlgRSA
	area.ObjectAttributes.SignEncrypt, area.ObjectAttributes.Decrypt = true, true
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme:    tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull},
		KeyBits:   bits,
		Exponent:  exponent,
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n})
}

// SetECC makes area that of an ECC key; of a template, x and y are nil.
func SetECC(area *tpm2.TPMTPublic, curve tpm2.TPMECCCurve, x, y []byte) {
	area.Type = tpm2.TPMAlgECC
	area.ObjectAttributes.SignEncrypt, area.ObjectAttributes.Decrypt = true, true
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme:    tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
		CurveID:   curve,
		KDF:       tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: x},
		Y: tpm2.TPM2BECCParameter{Buffer: y},
	})
}
