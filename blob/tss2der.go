package blob

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of key files, in DER without tag and length: 2.23.133.10.1.3 to .5, and
// 2.23.133.10.2 for old files.
var (
	oidTSS2 = []byte{0x67, 0x81, 0x05, 0x0a, 0x01}
	oidOld  = []byte{0x67, 0x81, 0x05, 0x0a, 0x02}
)

// The first bytes of handles that can be a parent.
//
// TPM 2.0 Library Part 2, section 7.2 (TPM_HT)
const (
	handlePermanent  = 0x40
	handlePersistent = 0x81
)

// handleOwner is TPM_RH_OWNER.
const handleOwner = 0x40000001

// The largest number of policy commands, and of signed policies. Real files have a few.
const (
	maxCommands = 64
	maxPolicies = 64
)

// isTSS2 reports whether b begins like a TPM 2.0 key file: a SEQUENCE with one of the object
// identifiers. b may be cut off.
func isTSS2(b []byte) bool {
	tag, size, _, ok := derHeader(b)
	if !ok || tag != asn1.SEQUENCE {
		return false
	}
	s := cryptobyte.String(b[size:])
	tag, oid, _ := nextElement(&s)
	return tag == asn1.OBJECT_IDENTIFIER && (bytes.HasPrefix(oid, oidTSS2) || bytes.Equal(oid, oidOld))
}

func parseTSS2File(der []byte) (Key, error) {
	t, err := parseTSS2(der)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// parseTSS2 parses the DER of a TPM 2.0 key file.
//
//	TPMKey ::= SEQUENCE {
//	  type        OBJECT IDENTIFIER,
//	  emptyAuth   [0] EXPLICIT BOOLEAN OPTIONAL,
//	  policy      [1] EXPLICIT SEQUENCE OF TPMPolicy OPTIONAL,
//	  secret      [2] EXPLICIT OCTET STRING OPTIONAL,
//	  authPolicy  [3] EXPLICIT SEQUENCE OF TPMAuthPolicy OPTIONAL,
//	  description [4] EXPLICIT UTF8String OPTIONAL,
//	  rsaParent   [5] EXPLICIT BOOLEAN OPTIONAL,
//	  parent      INTEGER,
//	  pubkey      OCTET STRING,
//	  privkey     OCTET STRING
//	}
//
// draft-bottomley-tpm2-keys, section 3.1 (TPMKey Syntax)
func parseTSS2(b []byte) (*TSS2, error) {
	body, err := derBody(b, asn1.SEQUENCE, "TPMKey")
	if err != nil {
		return nil, err
	}
	r := &derReader{s: body}
	t := &TSS2{container: TSS2DER}
	oid := r.element(asn1.OBJECT_IDENTIFIER, "type")
	if r.err == nil {
		if err := t.setType(oid); err != nil {
			return nil, err
		}
	}
	r.explicit(0, "emptyAuth", func(in *derReader) { t.EmptyAuth = in.boolean("emptyAuth") })
	if bytes.Equal(oid, oidOld) && oldLayout(r.s) {
		t.container = TSS2BlobDER
		r.oldFields(t)
	} else {
		r.fields(t)
	}
	if err := r.end("TPMKey"); err != nil {
		return nil, err
	}
	t.Handle = handleIn(t.Private)
	if err := t.check(); err != nil {
		return nil, err
	}
	t.der = bytes.Clone(b)
	return t, nil
}

// setType sets the type from an object identifier. The old one means a loadable key.
func (t *TSS2) setType(oid []byte) error {
	switch {
	case bytes.Equal(oid, oidOld), len(oid) == 6 && oid[5] == 3:
		t.Type = TSS2Loadable
	case len(oid) == 6 && oid[5] == 4:
		t.Type = TSS2Importable
	case len(oid) == 6 && oid[5] == 5:
		t.Type = TSS2Sealed
	default:
		return &NotKeyError{What: "a TPM 2.0 file of an unknown type", Do: "give a loadable or importable key, or sealed data (2.23.133.10.1.3 to .5)"}
	}
	return nil
}

// oldLayout reports whether the fields after emptyAuth have the old form, in which every field but
// the private part has a tag. Some files have the old object identifier and the new layout.
func oldLayout(s cryptobyte.String) bool {
	for {
		switch tag, _, ok := nextElement(&s); {
		case tag == asn1.INTEGER:
			return false
		case tag == asn1.OCTET_STRING || !ok:
			return true
		}
	}
}

func (r *derReader) fields(t *TSS2) {
	r.explicit(1, "policy", func(in *derReader) { t.Policy = in.policy("policy") })
	r.explicit(2, "secret", func(in *derReader) { t.Secret = in.octets("secret") })
	r.explicit(3, "authPolicy", func(in *derReader) { t.AuthPolicy = in.authPolicy() })
	r.explicit(4, "description", func(in *derReader) { t.Description = in.text("description") })
	r.explicit(5, "rsaParent", func(in *derReader) { t.RSAParent = in.boolean("rsaParent") })
	t.Parent = r.handle("parent")
	t.Public = r.octets("pubkey")
	t.Private = r.octets("privkey")
}

// handleIn returns the handle that a private part stands for, 0 if it is the private part of a key.
// tpm2-openssl 1 writes a key that the TPM keeps as a TPM2B_PRIVATE over the memory of its handle,
// on a little-endian machine: the size is the low half of the handle, and the next bytes are the
// third and the fourth byte of the handle, and zeros, as far as the size goes.
func handleIn(private []byte) uint32 {
	if len(private) < 3 || int(private[0])<<8|int(private[1]) != len(private)-2 {
		return 0
	}
	for i, b := range private[3:] {
		if i == 0 && b != handlePersistent || i > 0 && b != 0 {
			return 0
		}
	}
	return handlePersistent<<24 | uint32(private[2])<<16 | uint32(private[0])<<8 | uint32(private[1])
}

// oldFields parses the fields of the old form after emptyAuth:
//
//	parent      [1] EXPLICIT INTEGER OPTIONAL,
//	pubkey      [2] EXPLICIT OCTET STRING OPTIONAL,
//	policy      [3] EXPLICIT SEQUENCE OF TPMPolicy OPTIONAL,
//	privkey     OCTET STRING
//
// A missing parent means the owner hierarchy.
func (r *derReader) oldFields(t *TSS2) {
	t.Parent = handleOwner
	r.explicit(1, "parent", func(in *derReader) { t.Parent = in.handle("parent") })
	r.explicit(2, "pubkey", func(in *derReader) { t.Public = in.octets("pubkey") })
	r.explicit(3, "policy", func(in *derReader) { t.Policy = in.policy("policy") })
	t.Private = r.octets("privkey")
}

// A derReader reads elements and remembers the first error. After an error every element is empty.
type derReader struct {
	s   cryptobyte.String
	err error
}

// element returns the contents of the next element.
func (r *derReader) element(tag asn1.Tag, name string) cryptobyte.String {
	var body cryptobyte.String
	if r.err == nil && !r.s.ReadASN1(&body, tag) {
		r.err = damaged("%s is missing, or not valid DER", name)
	}
	return body
}

// explicit reads an optional field with the tag [n]. The function must read all of it.
func (r *derReader) explicit(n uint8, name string, read func(in *derReader)) {
	var body cryptobyte.String
	var there bool
	if r.err != nil {
		return
	}
	if !r.s.ReadOptionalASN1(&body, &there, asn1.Tag(n).ContextSpecific().Constructed()) {
		r.err = damaged("%s is not valid DER", name)
		return
	}
	if there {
		r.inside(body, name, read)
	}
}

// inside reads the contents of an element. The function must read all of it.
func (r *derReader) inside(body cryptobyte.String, name string, read func(in *derReader)) {
	if r.err != nil {
		return
	}
	in := &derReader{s: body}
	read(in)
	r.err = in.end(name)
}

// end returns the first error, or an error if bytes are left over.
func (r *derReader) end(name string) error {
	if r.err == nil && len(r.s) > 0 {
		r.err = damaged("%d bytes too many at the end of %s, or a field in the wrong place", len(r.s), name)
	}
	return r.err
}

func (r *derReader) octets(name string) []byte {
	return bytes.Clone(r.element(asn1.OCTET_STRING, name))
}

// boolean accepts any nonzero octet as TRUE, because OpenSSL writes 01 if a program passes 1.
func (r *derReader) boolean(name string) bool {
	body := r.element(asn1.BOOLEAN, name)
	if r.err == nil && len(body) != 1 {
		r.err = damaged("%s is a BOOLEAN of %d bytes", name, len(body))
	}
	return r.err == nil && body[0] != 0
}

func (r *derReader) text(name string) string {
	body := r.element(asn1.UTF8String, name)
	if r.err == nil && !utf8.Valid(body) {
		r.err = damaged("%s is not valid UTF-8", name)
	}
	return string(body)
}

// handle reads the parent. Some programs write a handle as a negative number; zero means the owner
// hierarchy.
func (r *derReader) handle(name string) uint32 {
	body := r.element(asn1.INTEGER, name)
	if r.err != nil {
		return 0
	}
	minimal := len(body) == 1 || len(body) > 1 && !(body[0] == 0 && body[1] < 0x80 || body[0] == 0xff && body[1] >= 0x80)
	if !minimal || len(body) > 5 || len(body) == 5 && body[0] != 0 {
		r.err = damaged("%s is no INTEGER of 32 bits", name)
		return 0
	}
	var v uint32
	if body[0] >= 0x80 {
		v = 0xffffffff
	}
	for _, b := range body {
		v = v<<8 | uint32(b)
	}
	if v == 0 {
		return handleOwner
	}
	return v
}
