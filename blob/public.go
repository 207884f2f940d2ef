package blob

import (
	"github.com/google/go-tpm/tpm2"
)

// A publicArea is a TPMT_PUBLIC taken apart. It knows more than go-tpm has names
// for, as a file should be explained even where no program can use its key.
//
// TPM 2.0 Library Part 2, section 12.2.4 (TPMT_PUBLIC)
type publicArea struct {
	alg        tpm2.TPMAlgID
	nameAlg    tpm2.TPMAlgID
	attributes uint32
	authPolicy []byte

	symmetric symmetric // of a storage key, or the cipher of a SYMCIPHER key
	scheme    scheme
	kdf       scheme
	keyBits   uint16 // RSA
	exponent  uint32 // RSA, as in the file: 0 means 65537
	curve     tpm2.TPMECCCurve

	modulus []byte    // RSA
	point   [2][]byte // ECC: x and y, as in the file
	unique  []byte    // the others: a digest

	// unknown names an algorithm of which it is not known how many bytes its
	// parameters have: what comes behind it was not read.
	unknown string
}

// A symmetric is a TPMT_SYM_DEF_OBJECT.
type symmetric struct {
	alg  tpm2.TPMAlgID
	bits uint16
	mode tpm2.TPMAlgID
}

// A scheme is one of the TPMT_…_SCHEME structures.
type scheme struct {
	alg  tpm2.TPMAlgID
	hash tpm2.TPMAlgID // TPM_ALG_NULL where it has none
}

// parsePublicArea reads a TPM2B_PUBLIC that fills b.
func parsePublicArea(b []byte) (*publicArea, error) {
	area, err := tpm2B(b, "public area")
	if err != nil {
		return nil, err
	}
	r := &reader{s: area, size: len(area), short: ErrDamaged}
	p := &publicArea{
		alg:        r.alg("type"),
		nameAlg:    r.alg("nameAlg"),
		attributes: r.uint32("objectAttributes"),
		authPolicy: r.sized16("authPolicy"),
	}
	r.parameters(p)
	if p.unknown == "" {
		r.unique(p)
	} else {
		r.s = nil
	}
	if err := r.end("TPMT_PUBLIC"); err != nil {
		return nil, err
	}
	return p, p.check()
}

// tpm2B returns the contents of a structure that has its size, a uint16, in front,
// and fills b.
func tpm2B(b []byte, name string) ([]byte, error) {
	if len(b) < 2 {
		return nil, shortError(ErrDamaged, name+" size", 2, len(b), 0)
	}
	size := int(b[0])<<8 | int(b[1])
	switch {
	case len(b)-2 < size:
		return nil, shortError(ErrDamaged, name, uint64(size), len(b)-2, 2)
	case len(b)-2 > size:
		return nil, damaged("%d bytes too many after %s", len(b)-2-size, name)
	case size == 0:
		return nil, damaged("%s is empty", name)
	}
	return b[2:], nil
}

func (r *reader) alg(field string) tpm2.TPMAlgID { return tpm2.TPMAlgID(r.uint16(field)) }

// sized16 returns a copy of a field that has its size, a uint16, in front; nil if it
// is empty.
func (r *reader) sized16(field string) []byte {
	n := r.uint16(field + " size")
	if n == 0 || !r.fits(field, uint64(n)) {
		return nil
	}
	return r.bytes(field, int(n))
}

// parameters reads a TPMU_PUBLIC_PARMS.
//
// TPM 2.0 Library Part 2, section 12.2.3.7 (TPMU_PUBLIC_PARMS)
func (r *reader) parameters(p *publicArea) {
	none := scheme{tpm2.TPMAlgNull, tpm2.TPMAlgNull}
	p.symmetric.alg, p.scheme, p.kdf = tpm2.TPMAlgNull, none, none
	switch p.alg {
	case tpm2.TPMAlgRSA:
		r.symmetric(p)
		r.scheme(p, &p.scheme, "scheme")
		p.keyBits = r.uint16("keyBits")
		p.exponent = r.uint32("exponent")
	case tpm2.TPMAlgECC:
		r.symmetric(p)
		r.scheme(p, &p.scheme, "scheme")
		p.curve = tpm2.TPMECCCurve(r.uint16("curveID"))
		r.scheme(p, &p.kdf, "kdf")
	case tpm2.TPMAlgKeyedHash:
		r.scheme(p, &p.scheme, "scheme")
	case tpm2.TPMAlgSymCipher:
		r.symmetric(p)
	default:
		p.unknown = algSpec(p.alg)
	}
}

// symmetric reads a TPMT_SYM_DEF_OBJECT.
//
// TPM 2.0 Library Part 2, section 11.1.7 (TPMT_SYM_DEF_OBJECT)
func (r *reader) symmetric(p *publicArea) {
	p.symmetric.alg = r.alg("symmetric algorithm")
	switch p.symmetric.alg {
	case tpm2.TPMAlgNull:
	case tpm2.TPMAlgAES, tpm2.TPMAlgTDES, tpm2.TPMAlgSM4, tpm2.TPMAlgCamellia:
		p.symmetric.bits = r.uint16("symmetric keyBits")
		p.symmetric.mode = r.alg("symmetric mode")
	default:
		p.unknown = algSpec(p.symmetric.alg)
	}
}

// scheme reads a TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KEYEDHASH_SCHEME or
// TPMT_KDF_SCHEME, which have the same form.
//
// TPM 2.0 Library Part 2, sections 11.1.22, 11.2.3 and 11.2.4
func (r *reader) scheme(p *publicArea, s *scheme, field string) {
	if p.unknown != "" {
		return
	}
	*s = scheme{r.alg(field), tpm2.TPMAlgNull}
	switch s.alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES:
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgOAEP, tpm2.TPMAlgECDSA, tpm2.TPMAlgECDH,
		tpm2.TPMAlgSM2, tpm2.TPMAlgECSchnorr, tpm2.TPMAlgECMQV, tpm2.TPMAlgHMAC,
		tpm2.TPMAlgMGF1, tpm2.TPMAlgKDF1SP80056A, tpm2.TPMAlgKDF2, tpm2.TPMAlgKDF1SP800108:
		s.hash = r.alg(field + " hash")
	case tpm2.TPMAlgECDAA, tpm2.TPMAlgXOR: // a counter, a key derivation function
		s.hash = r.alg(field + " hash")
		r.uint16(field + " details")
	default:
		if r.err == nil {
			p.unknown = algSpec(s.alg)
		}
	}
}

// unique reads a TPMU_PUBLIC_ID.
//
// TPM 2.0 Library Part 2, section 12.2.3.2 (TPMU_PUBLIC_ID)
func (r *reader) unique(p *publicArea) {
	switch p.alg {
	case tpm2.TPMAlgRSA:
		p.modulus = r.sized16("modulus")
	case tpm2.TPMAlgECC:
		p.point = [2][]byte{r.sized16("x coordinate"), r.sized16("y coordinate")}
	default:
		p.unique = r.sized16("unique")
	}
}
