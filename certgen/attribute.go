package main

import (
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An attributeType is a type of name attribute, with the limits of its values.
type attributeType struct {
	name   string // OpenSSL's short name
	long   string // OpenSSL's long name
	oid    asn1.ObjectIdentifier
	tag    cbasn1.Tag // string type
	minLen int        // in characters
	maxLen int        // in characters, 0 for no limit
}

// ubName is ub-name of RFC 5280.
const ubName = 32768

// attributeTypes are the types that have a name here. String types and limits are those of RFC
// 5280, appendix A.1, and otherwise those of X.520 and RFC 1274 (UID, mail).
var attributeTypes = []attributeType{
	{"C", "countryName", x520(6), cbasn1.PrintableString, 2, 2},
	{"ST", "stateOrProvinceName", x520(8), cbasn1.UTF8String, 1, 128},
	{"L", "localityName", x520(7), cbasn1.UTF8String, 1, 128},
	{"O", "organizationName", x520(10), cbasn1.UTF8String, 1, 64},
	{"OU", "organizationalUnitName", x520(11), cbasn1.UTF8String, 1, 64},
	{"CN", "commonName", x520(3), cbasn1.UTF8String, 1, 64},
	{"emailAddress", "", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, cbasn1.IA5String, 1, 255},
	{"serialNumber", "", x520(5), cbasn1.PrintableString, 1, 64},
	{"SN", "surname", x520(4), cbasn1.UTF8String, 1, ubName},
	{"GN", "givenName", x520(42), cbasn1.UTF8String, 1, ubName},
	{"name", "", x520(41), cbasn1.UTF8String, 1, ubName},
	{"initials", "", x520(43), cbasn1.UTF8String, 1, ubName},
	{"generationQualifier", "", x520(44), cbasn1.UTF8String, 1, ubName},
	{"pseudonym", "", x520(65), cbasn1.UTF8String, 1, 128},
	{"title", "", x520(12), cbasn1.UTF8String, 1, 64},
	{"dnQualifier", "", x520(46), cbasn1.PrintableString, 1, 0},
	{"description", "", x520(13), cbasn1.UTF8String, 1, 1024},
	{"street", "streetAddress", x520(9), cbasn1.UTF8String, 1, 128},
	{"postalCode", "", x520(17), cbasn1.UTF8String, 1, 40},
	{"businessCategory", "", x520(15), cbasn1.UTF8String, 1, 128},
	{"organizationIdentifier", "", x520(97), cbasn1.UTF8String, 1, 0},
	{"DC", "domainComponent", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, cbasn1.IA5String, 1, 0},
	{"UID", "userId", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, cbasn1.UTF8String, 1, 256},
	{"mail", "rfc822Mailbox", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 3}, cbasn1.IA5String, 1, 256},
	{"jurisdictionL", "jurisdictionLocalityName", jurisdiction(1), cbasn1.UTF8String, 1, 128},
	{"jurisdictionST", "jurisdictionStateOrProvinceName", jurisdiction(2), cbasn1.UTF8String, 1, 128},
	{"jurisdictionC", "jurisdictionCountryName", jurisdiction(3), cbasn1.PrintableString, 2, 2},
}

// x520 returns an attribute type of X.520.
func x520(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }

// jurisdiction returns an attribute type of the CA/Browser Forum's EV guidelines.
func jurisdiction(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 60, 2, 1, n}
}

// findAttributeType returns the type for an OpenSSL name or a dotted object identifier. An unknown
// object identifier takes any UTF8String.
func findAttributeType(text string) (attributeType, bool) {
	for _, t := range attributeTypes {
		if text == t.name || text == t.long && text != "" || text == t.oid.String() {
			return t, true
		}
	}
	oid, ok := parseOID(text)
	return attributeType{name: text, oid: oid, tag: cbasn1.UTF8String, minLen: 1}, ok
}

// parseOID parses a dotted object identifier. ok is false if DER or encoding/asn1 cannot represent
// it.
func parseOID(text string) (oid asn1.ObjectIdentifier, ok bool) {
	for _, arc := range strings.Split(text, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || arc != strconv.FormatUint(n, 10) {
			return nil, false
		}
		oid = append(oid, int(n))
	}
	der, err := asn1.Marshal(oid)
	if err != nil {
		return nil, false
	}
	var again asn1.ObjectIdentifier
	_, err = asn1.Unmarshal(der, &again)
	return oid, err == nil && again.Equal(oid)
}

// knownTypes lists the names for messages.
func knownTypes() string {
	names := make([]string, len(attributeTypes))
	for i, t := range attributeTypes {
		names[i] = t.name
	}
	return strings.Join(names, ", ")
}

// check returns why t cannot have the value.
func (t *attributeType) check(value string) error {
	if !utf8.ValidString(value) {
		return fmt.Errorf("%s is not valid UTF-8", t.name)
	}
	n := utf8.RuneCountInString(value)
	switch {
	case t.minLen == t.maxLen && (n != t.maxLen || strings.ContainsFunc(value, notLetter)):
		return fmt.Errorf("%s is a country's code of two letters, such as FR, not %q", t.name, value)
	case t.maxLen > 0 && n > t.maxLen:
		return fmt.Errorf("%s takes at most %d characters, and this has %d", t.name, t.maxLen, n)
	}
	for _, r := range value {
		if unicode.IsControl(r) || !allowed(t.tag, r) {
			return fmt.Errorf("%s cannot have the character %+q, only %s", t.name, r, allowedText(t.tag))
		}
	}
	return nil
}

func notLetter(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }

// allowed reports whether a string of this type may contain r.
func allowed(tag cbasn1.Tag, r rune) bool {
	switch tag {
	case cbasn1.PrintableString: // X.680, section 41.4
		return !notLetter(r) || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
	case cbasn1.IA5String:
		return r < utf8.RuneSelf
	}
	return true
}

func allowedText(tag cbasn1.Tag) string {
	switch tag {
	case cbasn1.PrintableString:
		return "letters, digits, spaces and '()+,-./:=? (PrintableString)"
	case cbasn1.IA5String:
		return "ASCII (IA5String)"
	}
	return "text"
}

// An attribute is a type with a valid value.
type attribute struct {
	attributeType
	value string
}

func newAttribute(name, value string) (attribute, error) {
	t, ok := findAttributeType(name)
	if !ok {
		return attribute{}, fmt.Errorf("unknown attribute %q", name)
	}
	return attribute{t, value}, t.check(value)
}

// marshal adds the DER AttributeTypeAndValue: RFC 5280, section 4.1.2.4.
func (a *attribute) marshal(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.oid)
		b.AddASN1(a.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
	})
}
