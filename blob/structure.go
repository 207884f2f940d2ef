package blob

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"math/big"

	"maclef/internal/pubarea"
)

// The beginnings of TPM_KEY, version 1.1.0.0, and TPM_KEY12, TPM_TAG_KEY12 and zero fill.
//
// TPM Main Part 2, sections 5.1 (TPM_STRUCT_VER) and 10.3 (TPM_KEY12)
var (
	keyStart   = []byte{1, 1, 0, 0}
	key12Start = []byte{0, 0x28, 0, 0}
)

// algRSA is TPM_ALG_RSA.
//
// TPM Main Part 2, section 4.8 (TPM_ALGORITHM_ID)
const algRSA = 1

// maxField is the largest size of a field with a size prefix, in bytes. A larger size means damage,
// not truncation. A TPM takes commands of about 4 KiB.
const maxField = 0xffff

// isStructure reports whether a file begins like a bare structure.
func isStructure(b []byte) bool { return len(b) >= 2 && startsLikeKey(b) }

// startsLikeKey reports whether b begins like TPM_KEY or TPM_KEY12. b may be cut off.
func startsLikeKey(b []byte) bool {
	b = b[:min(len(b), len(keyStart))]
	return bytes.HasPrefix(keyStart, b) || bytes.HasPrefix(key12Start, b)
}

// NewTPMKey makes a key file from the reply of TPM_CreateWrapKey. The error wraps [ErrTruncated] or
// [ErrDamaged].
//
// TPM Main Part 3, section 10.4 (TPM_CreateWrapKey)
func NewTPMKey(structure []byte) (*TPMKey, error) { return parseStructure(structure) }

// parseStructure parses a TPM_KEY or TPM_KEY12 that fills b. The key owns its slices.
//
//	TPM_KEY                          TPM_KEY12
//	version        4 bytes 01010000  tag, fill     2, 2 bytes 0028 0000
//	keyUsage       uint16
//	keyFlags       uint32
//	authDataUsage  uint8
//	algorithmParms TPM_KEY_PARMS
//	PCRInfo        uint32 size, TPM_PCR_INFO or TPM_PCR_INFO_LONG
//	pubKey         uint32 size, modulus
//	encData        uint32 size, TPM_STORE_ASYMKEY encrypted
func parseStructure(b []byte) (*TPMKey, error) {
	r := newReader(b, ErrTruncated)
	start := r.Bytes("version", len(keyStart))
	k := &TPMKey{
		Key12:         bytes.Equal(start, key12Start),
		Usage:         KeyUsage(r.Uint16("keyUsage")),
		Flags:         KeyFlags(r.Uint32("keyFlags")),
		AuthDataUsage: AuthDataUsage(r.Uint8("authDataUsage")),
	}
	if r.Err == nil && !k.Key12 && !bytes.Equal(start, keyStart) {
		return nil, damaged("it begins neither as TPM_KEY nor as TPM_KEY12")
	}
	r.keyParms(k)
	k.PCRInfo = r.sized("PCRInfo")
	k.Modulus = r.sized("modulus")
	k.EncData = r.sized("encData")
	if err := r.End("TPM_KEY"); err != nil {
		return nil, err
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	return k, nil
}

// ParsePubKey parses a TPM_PUBKEY from TPM_GetPubKey or TPM_OwnerReadInternalPub: RSA parameters
// and modulus, without trailing bytes.
//
// TPM Main Part 2, section 10.5 (TPM_PUBKEY)
func ParsePubKey(b []byte) (*rsa.PublicKey, error) {
	r := newReader(b, ErrTruncated)
	var k TPMKey
	r.keyParms(&k)
	k.Modulus = r.sized("modulus")
	if err := r.End("TPM_PUBKEY"); err != nil {
		return nil, err
	}
	e, err := exponentInt(k.Exponent)
	if err != nil {
		return nil, err
	}
	if err := checkModulus(k.Modulus, k.KeyLength); err != nil {
		return nil, err
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}, nil
}

// Bytes returns the bare TPM_KEY or TPM_KEY12 structure for TPM_LoadKey2, or the keyInfo of
// TPM_CreateWrapKey if k is a template.
func (k *TPMKey) Bytes() []byte {
	return appendSized(k.publicBytes(), k.EncData)
}

// publicBytes returns the structure without encDataSize and encData, which is the input of the
// digest in the private part.
func (k *TPMKey) publicBytes() []byte {
	b := make([]byte, 0, 64+len(k.Exponent)+len(k.PCRInfo)+len(k.Modulus)+len(k.EncData))
	if k.Key12 {
		b = append(b, key12Start...)
	} else {
		b = append(b, keyStart...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(k.Usage))
	b = binary.BigEndian.AppendUint32(b, uint32(k.Flags))
	b = append(b, byte(k.AuthDataUsage))
	b = binary.BigEndian.AppendUint32(b, algRSA)
	b = binary.BigEndian.AppendUint16(b, uint16(k.EncScheme))
	b = binary.BigEndian.AppendUint16(b, uint16(k.SigScheme))
	b = binary.BigEndian.AppendUint32(b, uint32(12+len(k.Exponent)))
	b = binary.BigEndian.AppendUint32(b, k.KeyLength)
	b = binary.BigEndian.AppendUint32(b, k.NumPrimes)
	b = appendSized(b, k.Exponent)
	b = appendSized(b, k.PCRInfo)
	return appendSized(b, k.Modulus)
}

func appendSized(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// A reader is a pubarea.Reader with methods for TPM 1.2 structures.
type reader struct{ pubarea.Reader }

// newReader reads from b. short is the error for a field that does not fit.
func newReader(b []byte, short error) *reader { return &reader{pubarea.NewReader(b, short)} }

// sized returns a copy of a field with a uint32 size prefix; nil if it is empty.
func (r *reader) sized(field string) []byte {
	n := r.Uint32(field + "Size")
	if r.Err == nil && n > maxField {
		r.Err = damaged("%s of %d bytes is larger than any", field, n)
	}
	if n == 0 || !r.Fits(field, uint64(n)) {
		return nil
	}
	return r.Bytes(field, int(n))
}

// keyParms reads the parameters of an RSA key into k.
//
// TPM Main Part 2, sections 10.1 (TPM_KEY_PARMS) and 10.1.1 (TPM_RSA_KEY_PARMS)
func (r *reader) keyParms(k *TPMKey) {
	alg := r.Uint32("algorithmID")
	if r.Err == nil && alg != algRSA {
		r.Err = damaged("algorithmID is 0x%08x, and private keys of TPM 1.2 are RSA (0x%08x)", alg, algRSA)
	}
	k.EncScheme = EncScheme(r.Uint16("encScheme"))
	k.SigScheme = SigScheme(r.Uint16("sigScheme"))
	parms := r.sized("parms")
	if r.Err != nil {
		return
	}
	in := newReader(parms, ErrDamaged)
	k.KeyLength = in.Uint32("keyLength")
	k.NumPrimes = in.Uint32("numPrimes")
	k.Exponent = in.sized("exponent")
	r.Err = in.End("parms")
}
