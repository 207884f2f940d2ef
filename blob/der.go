package blob

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/pubarea"
)

// Types of a TssBlob that contains a key. Files use either type for either structure.
//
// TSS 1.2, tss_defines.h (TSS_BLOB_TYPE_KEY, TSS_BLOB_TYPE_KEY_1_2)
const (
	tssBlobKey   = 0x01
	tssBlobKey12 = 0x0b
)

// tssBlobStart is the beginning of a TssBlob: version 1, then an INTEGER. No other DER file begins
// like this: in a private key, version 1 is followed by an OCTET STRING, a SEQUENCE or, in a
// multi-prime RSA key, a long INTEGER.
var tssBlobStart = []byte{0x02, 1, 1, 0x02}

// derHeader parses the tag and length at the start of b. The length may be larger than b. ok is
// false if the header is cut off or not DER.
func derHeader(b []byte) (tag asn1.Tag, size int, length uint32, ok bool) {
	s := cryptobyte.String(b)
	var t, l uint8
	if !s.ReadUint8(&t) || !s.ReadUint8(&l) {
		return 0, 0, 0, false
	}
	if l < 0x80 {
		return asn1.Tag(t), 2, uint32(l), true
	}
	n := int(l &^ 0x80)
	var digits []byte
	if n < 1 || n > 4 || !s.ReadBytes(&digits, n) {
		return 0, 0, 0, false
	}
	for _, d := range digits {
		length = length<<8 | uint32(d)
	}
	return asn1.Tag(t), 2 + n, length, true
}

// derBody returns the contents of the element with this tag that fills b.
func derBody(b []byte, tag asn1.Tag, name string) (cryptobyte.String, error) {
	s := cryptobyte.String(b)
	var body cryptobyte.String
	if s.ReadASN1(&body, tag) {
		if len(s) > 0 {
			return nil, damaged("%d bytes too many after %s", len(s), name)
		}
		return body, nil
	}
	got, size, length, ok := derHeader(b)
	if ok && got == tag && uint64(length) > uint64(len(b)-size) {
		return nil, pubarea.ShortError(ErrTruncated, name, uint64(length), len(b)-size, size)
	}
	if !ok && len(b) < 6 {
		return nil, truncated("%s ends in its header, after %d bytes", name, len(b))
	}
	return nil, damaged("%s has no valid DER header", name)
}

// isOctetString reports whether b begins like an OCTET STRING that contains a key.
func isOctetString(b []byte) bool {
	if len(b) < 2 || asn1.Tag(b[0]) != asn1.OCTET_STRING {
		return false
	}
	_, size, _, ok := derHeader(b)
	return !ok && len(b) < 6 || ok && startsLikeKey(b[size:])
}

func parseOctetString(b []byte) (*TPMKey, error) {
	body, err := derBody(b, asn1.OCTET_STRING, "OCTET STRING")
	if err != nil {
		return nil, err
	}
	return parseStructure(body)
}

func (k *TPMKey) marshalOctetString() []byte {
	return derElement(asn1.OCTET_STRING, k.Bytes())
}

// isTssBlob reports whether b begins like a TssBlob. b may be cut off.
func isTssBlob(b []byte) bool {
	tag, size, length, ok := derHeader(b)
	if !ok || tag != asn1.SEQUENCE || length == 0 {
		return false
	}
	body := b[size:]
	if len(body) > 4 && body[4] > 4 { // an INTEGER too long for a type
		return false
	}
	return bytes.HasPrefix(tssBlobStart, body[:min(len(body), 4)])
}

// parseTssBlob parses SEQUENCE { version, type, length INTEGER, key OCTET STRING }.
//
// TSS 1.2, Tspi_EncodeDER_TssBlob
func parseTssBlob(b []byte) (*TPMKey, error) {
	body, err := derBody(b, asn1.SEQUENCE, "TssBlob")
	if err != nil {
		return nil, err
	}
	var version, kind, length uint32 // isTssBlob has checked that the version is 1
	if !readLooseInteger(&body, &version) || !readLooseInteger(&body, &kind) || !readLooseInteger(&body, &length) {
		return nil, damaged("TssBlob does not begin with three INTEGERs: version, type and length")
	}
	if kind != tssBlobKey && kind != tssBlobKey12 {
		return nil, &NotKeyError{What: "a TssBlob of a type that is no key", Do: "use the file that Tspi_EncodeDER_TssBlob wrote of the key itself"}
	}
	inner, err := derBody(body, asn1.OCTET_STRING, "OCTET STRING in TssBlob")
	if err != nil {
		return nil, err
	}
	if uint64(length) != uint64(len(inner)) {
		return nil, damaged("TssBlob says that its key has %d bytes, and it has %d", length, len(inner))
	}
	k, err := parseStructure(inner)
	if err != nil {
		return nil, err
	}
	k.tssType = kind
	return k, nil
}

// readLooseInteger reads an unsigned INTEGER of 1 to 4 bytes, which need not be minimally encoded:
// trousers writes the length as 02 04 00 00 02 2f.
func readLooseInteger(s *cryptobyte.String, v *uint32) bool {
	var digits cryptobyte.String
	if !s.ReadASN1(&digits, asn1.INTEGER) || len(digits) < 1 || len(digits) > 4 {
		return false
	}
	*v = 0
	for _, d := range digits {
		*v = *v<<8 | uint32(d)
	}
	return true
}

func (k *TPMKey) marshalTssBlob() []byte {
	kind := k.tssType
	if kind == 0 {
		kind = tssBlobKey
		if k.Key12 {
			kind = tssBlobKey12
		}
	}
	key := k.Bytes()
	n := len(key)
	body := []byte{
		0x02, 1, 1,
		0x02, 1, byte(kind),
		0x02, 4, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n),
	}
	return derElement(asn1.SEQUENCE, append(body, derElement(asn1.OCTET_STRING, key)...))
}

// derElement adds tag and length to contents.
func derElement(tag asn1.Tag, contents []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(contents) })
	return b.BytesOrPanic()
}
