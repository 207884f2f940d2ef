package main

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/cli"
)

// A subject is a name in the format of openssl req -subj: /C=FR/O=Org+OU=Unit. It is a flag.Value.
// crypto/x509/pkix.Name cannot be used, because it sorts attributes.
type subject struct {
	rdns    []rdn
	skipped []string // attributes without a value
}

// An rdn is a RelativeDistinguishedName: one attribute, or several joined with +.
type rdn []attribute

// Set parses a name. Its errors are cli.UsageErrors.
func (s *subject) Set(text string) error {
	*s = subject{}
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return &cli.UsageError{Text: "a subject begins with /", Advice: "as in /C=FR/O=Org/CN=www.example.org"}
	}
	var current rdn
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return &cli.UsageError{Text: fmt.Sprintf("%q has no =", rest), Advice: `a / or + that belongs to a value is written \/ or \+`}
		}
		value, end, after, err := cutValue(after)
		if err != nil {
			return err
		}
		rest = after
		if current, err = s.addAttribute(current, name, value); err != nil {
			return err
		}
		if end != '+' {
			s.addRDN(current)
			current = nil
		}
	}
	s.addRDN(current)
	return nil
}

// cutValue parses a value with escapes. end is the / or + after it, or 0 at the end of the text.
func cutValue(text string) (value string, end byte, after string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '/', '+':
			return b.String(), c, text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", 0, "", &cli.UsageError{Text: `it ends with a single \`, Advice: `a \ that belongs to a value is written \\`}
			}
		}
		b.WriteByte(text[i])
	}
	return b.String(), 0, "", nil
}

// addAttribute adds an attribute to an RDN.
func (s *subject) addAttribute(element rdn, name, value string) (rdn, error) {
	if _, ok := findAttributeType(name); !ok {
		return nil, &cli.UsageError{
			Text:   fmt.Sprintf("unknown attribute %q", name),
			Advice: "known are " + knownTypes() + `, and dotted object identifiers; a / or + that belongs to a value is written \/ or \+`,
		}
	}
	if value == "" {
		s.skipped = append(s.skipped, name)
		return element, nil
	}
	a, err := newAttribute(name, value)
	if err != nil {
		return nil, cli.Usagef("%v", err)
	}
	return append(element, a), nil
}

func (s *subject) addRDN(element rdn) {
	if len(element) > 0 {
		s.rdns = append(s.rdns, element)
	}
}

// String returns the name in the format of Set.
func (s *subject) String() string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `/`, `\/`, `+`, `\+`)
	for _, element := range s.rdns {
		separator := "/"
		for _, a := range element {
			b.WriteString(separator + a.name + "=" + escape.Replace(a.value))
			separator = "+"
		}
	}
	return b.String()
}

// values returns the values of an attribute type, by its short name.
func (s *subject) values(name string) (all []string) {
	for _, element := range s.rdns {
		for _, a := range element {
			if a.name == name {
				all = append(all, a.value)
			}
		}
	}
	return all
}

// sameName reports whether two DER Names are the same for OpenSSL and RFC 5280, section 7.1: case,
// the number of spaces and the string types do not count.
func sameName(a, b []byte) bool { return strings.EqualFold(nameText(a), nameText(b)) }

// nameText returns a DER Name as a text to compare.
func nameText(der []byte) string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &name); err != nil {
		return string(der)
	}
	var b strings.Builder
	for _, element := range name {
		for _, a := range element {
			fmt.Fprintf(&b, "%v=%q ", a.Type, strings.Fields(fmt.Sprint(a.Value)))
		}
		b.WriteString("/")
	}
	return b.String()
}

// marshal returns the DER Name: RFC 5280, section 4.1.2.4. RDNs stay in order, and DER sorts the
// attributes of each: X.690, section 11.6 (SET OF).
func (s *subject) marshal() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, element := range s.rdns {
			encoded := make([][]byte, len(element))
			for i := range element {
				var one cryptobyte.Builder
				element[i].marshal(&one)
				encoded[i] = one.BytesOrPanic()
			}
			slices.SortFunc(encoded, bytes.Compare)
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(encoded, nil)) })
		}
	})
	return b.BytesOrPanic()
}
