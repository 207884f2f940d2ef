package blob

import (
	"bytes"
	"fmt"

	"maclef/internal/textenc"
)

// Container is the format of a key file: what surrounds a TPM_KEY structure or the parts of a TPM
// 2.0 key.
type Container int

// The containers of Parse and Marshal.
const (
	// PEM is the block "TSS KEY BLOB" around an OctetString, the key file of create_tpm_key and
	// OpenSSL's TPM engine.
	PEM Container = iota
	// OctetString is a DER OCTET STRING around the structure.
	OctetString
	// TssBlob is the DER SEQUENCE of Tspi_EncodeDER_TssBlob: version, type and length as INTEGERs,
	// the structure as OCTET STRING.
	TssBlob
	// Raw is the bare structure.
	Raw
	// SimpleTPMPK11 is the text file of simple-tpm-pk11's stpm-keygen: lines "exp", "mod" and
	// "blob" in hexadecimal.
	SimpleTPMPK11
	// TSS2PEM is the block "TSS2 PRIVATE KEY" around TSS2DER, the usual key file for TPM 2.0.
	TSS2PEM
	// TSS2DER is the DER SEQUENCE of draft-bottomley-tpm2-keys.
	TSS2DER
	// TSS2BlobPEM is the block "TSS2 KEY BLOB" around TSS2BlobDER. Early versions of
	// create_tpm2_key write it, and later ones with --deprecated.
	TSS2BlobPEM
	// TSS2BlobDER is the old form of TSS2DER, with different tags.
	TSS2BlobDER
	// ESYSObject is what tpm2_evictcontrol and other programs with tpm2-tss write of a persistent
	// key: its handle, its name and its public area. The key stays in the TPM.
	ESYSObject
	// TSS2Pair is the TPM2B_PUBLIC and the TPM2B_PRIVATE of tpm2-tools, in two files: see
	// [ParsePair], [TSS2.Public] and [TSS2.Private].
	TSS2Pair
	// TSSSealed is the file of tpm-tools' tpm_sealdata, data sealed to a TPM 1.2: see [TPMSealed].
	TSSSealed
)

// String returns the name of the container for messages.
func (c Container) String() string {
	switch c {
	case PEM:
		return "PEM TSS KEY BLOB"
	case OctetString:
		return "DER OCTET STRING"
	case TssBlob:
		return "DER TssBlob"
	case Raw:
		return "bare TPM_KEY"
	case SimpleTPMPK11:
		return "simple-tpm-pk11 text"
	case TSS2PEM:
		return "PEM TSS2 PRIVATE KEY"
	case TSS2DER:
		return "DER TPMKey (TSS2)"
	case TSS2BlobPEM:
		return "PEM TSS2 KEY BLOB"
	case TSS2BlobDER:
		return "DER TPMKey, old form"
	case ESYSObject:
		return "ESYS object of tpm2-tss"
	case TSS2Pair:
		return "tpm2-tools pair"
	case TSSSealed:
		return "PEM TSS (tpm_sealdata)"
	}
	return fmt.Sprintf("unknown container %d", int(c))
}

// old reports whether c is a form that early versions of create_tpm2_key write.
func (c Container) old() bool { return c == TSS2BlobPEM || c == TSS2BlobDER }

// Parse parses a key file in any container. The Key keeps no part of data.
//
// Parse accepts text around a PEM block, header lines in it, CRLF line ends, and text in UTF-16 with
// a byte order mark. Any other extra data are an error. If
// the file is something else, the error is a [*NotKeyError]. If it is a key file that cannot be
// read, the error wraps [ErrTruncated] or [ErrDamaged].
func Parse(data []byte) (Key, error) {
	k, err := parse(data)
	return k, advise(err)
}

// formats are the known file formats. The first format whose function is returns true parses the
// file, or returns an error that says what it is.
var formats = []struct {
	is    func(file []byte) bool
	parse func(file []byte) (Key, error)
	text  bool // it is a text, which may be UTF-16 or begin with a byte order mark
}{
	{is: isTrousersStore, parse: refuse(errTrousersStore())},
	{is: isPublicHalf, parse: refuse(errHalf(PublicHalf))},
	{is: isPrivateHalf, parse: refuse(errHalf(PrivateHalf))},
	{is: isESYSObject, parse: parseESYSObject},
	{is: isStructure, parse: in(Raw, parseStructure)},
	{is: isEmpty, parse: refuse(errEmpty()), text: true},
	{is: isTPMSealed, parse: parseTPMSealed, text: true},
	{is: hasPEM, parse: parsePEM, text: true},
	{is: isSimpleTPMPK11, parse: in(SimpleTPMPK11, parseSimpleTPMPK11), text: true},
	{is: isOctetString, parse: in(OctetString, parseOctetString)},
	{is: isTssBlob, parse: in(TssBlob, parseTssBlob)},
	{is: isTSS2, parse: parseTSS2File},
}

func parse(data []byte) (Key, error) {
	text, copied := textenc.UTF8(data)
	if copied {
		defer clear(text) // it may be a software key
	}
	for _, f := range formats {
		file := data
		if f.text {
			file = text
		}
		if f.is(file) {
			return f.parse(file)
		}
	}
	return nil, describeDER(data)
}

// in returns a parser that also sets the container.
func in(c Container, parse func([]byte) (*TPMKey, error)) func([]byte) (Key, error) {
	return func(file []byte) (Key, error) {
		k, err := parse(file)
		if err != nil {
			return nil, err
		}
		k.container = c
		return k, nil
	}
}

// refuse returns a parser that always fails, for files that are no keys.
func refuse(what *NotKeyError) func([]byte) (Key, error) {
	return func([]byte) (Key, error) {
		e := *what
		return nil, &e
	}
}

func isEmpty(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

// Marshal implements [Key].
func (k *TPMKey) Marshal(c Container) ([]byte, error) {
	if c >= TSS2PEM && c <= TSSSealed {
		return nil, fmt.Errorf("write %v: the key is one of a TPM 1.2; use %v", c, PEM)
	}
	if k.isTemplate() {
		return nil, fmt.Errorf("write %v: the key is a template without contents; let a TPM create it first", c)
	}
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("write %v: %w", c, err)
	}
	switch c {
	case PEM:
		return k.marshalPEM(), nil
	case OctetString:
		return k.marshalOctetString(), nil
	case TssBlob:
		return k.marshalTssBlob(), nil
	case Raw:
		return k.Bytes(), nil
	case SimpleTPMPK11:
		return k.marshalSimpleTPMPK11(), nil
	}
	return nil, fmt.Errorf("write key: %v; use one of blob's constants", c)
}
