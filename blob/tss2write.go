package blob

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/pubarea"
)

// check returns what in t contradicts the specification or t itself. Parse and Marshal both call
// it, so Parse reads everything that Marshal writes.
func (t *TSS2) check() error {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return err
	}
	if bytes.Equal(t.Private, []byte{0, 0}) {
		return damaged("the private part is empty, as tpm2-openssl writes it for a key that the TPM keeps at a handle such as 0x81010000; use the key by its handle")
	}
	private, err := pubarea.TPM2B(t.Private, "private part")
	if err != nil {
		return err
	}
	if t.Handle != 0 && t.Handle != handleIn(t.Private) {
		return damaged("the private part does not stand for the handle 0x%08x", t.Handle)
	}
	if len(t.Secret) > 0 {
		if _, err := pubarea.TPM2B(t.Secret, "secret"); err != nil {
			return err
		}
		if !isWrapped(private) {
			return damaged("the private part is no duplicate with an outer wrapper, as the importable have")
		}
	}
	switch kind := t.Parent >> 24; {
	case kind != handlePermanent && kind != handlePersistent:
		return damaged("parent is 0x%08x, neither a persistent key (0x81…) nor a hierarchy (0x40…)", t.Parent)
	case t.Type == TSS2Loadable && len(t.Secret) > 0:
		return damaged("a loadable key has a secret, as only importable ones have")
	case t.Type == TSS2Importable && len(t.Secret) == 0:
		return damaged("an importable key has no secret")
	case t.Type == TSS2Sealed && p.Unknown == "" && !p.Sealed():
		return damaged("the public area of sealed data is that of a key (%s)", pubarea.AlgSpec(p.Alg))
	case t.Type < TSS2Loadable || t.Type > TSS2Sealed:
		return damaged("type of file is %v", t.Type)
	case !utf8.ValidString(t.Description):
		return damaged("description is not valid UTF-8")
	}
	return t.checkPolicies()
}

func (t *TSS2) checkPolicies() error {
	if len(t.Policy) > maxCommands || len(t.AuthPolicy) > maxPolicies {
		return damaged("policy has more than %d commands, or authPolicy more than %d policies", maxCommands, maxPolicies)
	}
	for _, p := range t.AuthPolicy {
		if len(p.Policy) > maxCommands || !utf8.ValidString(p.Name) {
			return damaged("a policy of authPolicy has more than %d commands, or a name that is not UTF-8", maxCommands)
		}
	}
	return nil
}

// isWrapped reports whether b begins like a private part with an HMAC: a digest with its size, and
// more data.
//
// TPM 2.0 Library Part 2, section 12.3.6 (_PRIVATE)
func isWrapped(b []byte) bool {
	if len(b) < 2 || b[0] != 0 {
		return false
	}
	n := int(b[1])
	return (n == 20 || n == 32 || n == 48 || n == 64) && len(b) > 2+n
}

// checkFile returns why t cannot be written as a file in container c.
func (t *TSS2) checkFile(c Container) error {
	switch {
	case t.Handle != 0 && t.Private == nil:
		return fmt.Errorf("the key at 0x%08x stays in its TPM and has no file", t.Handle)
	case c == TSS2Pair:
		return errors.New("a pair is two files; write Public and Private")
	case c != TSS2PEM && c != TSS2DER && c != TSS2BlobPEM && c != TSS2BlobDER:
		return fmt.Errorf("the key is one of a TPM 2.0; use %v", TSS2PEM)
	}
	if c.old() && (t.Type != TSS2Loadable || len(t.AuthPolicy) > 0 || t.Description != "" || t.RSAParent) {
		return fmt.Errorf("the old form holds loadable keys only, without signed policies, description and rsaParent; use %v", TSS2PEM)
	}
	if c.old() != t.container.old() && t.Parent>>24 == handlePermanent {
		return errors.New("a hierarchy as parent stands for another primary key in old files than in new ones; keep the form of the file")
	}
	return t.check()
}

// Marshal implements [Key].
func (t *TSS2) Marshal(c Container) ([]byte, error) {
	if err := t.checkFile(c); err != nil {
		return nil, fmt.Errorf("write %v: %w", c, err)
	}
	der := t.original(c.old())
	if der == nil {
		der = t.marshal(c.old())
	}
	switch c {
	case TSS2PEM:
		return pem.EncodeToMemory(&pem.Block{Type: pemTSS2, Bytes: der}), nil
	case TSS2BlobPEM:
		return pem.EncodeToMemory(&pem.Block{Type: pemTSS2Blob, Bytes: der}), nil
	}
	return der, nil
}

// original returns the DER that t was parsed from, if it has the wanted layout and t has not
// changed.
func (t *TSS2) original(old bool) []byte {
	if t.der == nil || t.container.old() != old {
		return nil
	}
	was, err := parseTSS2(t.der)
	if err != nil || !was.same(t) {
		return nil
	}
	return bytes.Clone(t.der)
}

// same reports whether two files have the same content.
func (t *TSS2) same(u *TSS2) bool {
	return t.Type == u.Type && t.EmptyAuth == u.EmptyAuth && t.Description == u.Description &&
		t.RSAParent == u.RSAParent && t.Handle == u.Handle && t.Parent == u.Parent && samePolicy(t.Policy, u.Policy) &&
		bytes.Equal(t.Secret, u.Secret) && bytes.Equal(t.Public, u.Public) && bytes.Equal(t.Private, u.Private) &&
		slices.EqualFunc(t.AuthPolicy, u.AuthPolicy, func(a, b AuthPolicy) bool {
			return a.Name == b.Name && samePolicy(a.Policy, b.Policy)
		})
}

// marshal writes a file that every known program reads. It writes FALSE, because some programs
// require it. It leaves out empty optional fields, which some do not know. The parent is a positive
// number.
func (t *TSS2) marshal(old bool) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		oid := append(bytes.Clone(oidTSS2), 3+byte(t.Type))
		if old {
			oid = oidOld
		}
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
		addExplicit(b, 0, func(b *cryptobyte.Builder) { b.AddASN1Boolean(t.EmptyAuth) })
		if old {
			t.addOldFields(b)
		} else {
			t.addFields(b)
		}
		b.AddASN1OctetString(t.Private)
	})
	return b.BytesOrPanic()
}

func (t *TSS2) addFields(b *cryptobyte.Builder) {
	if len(t.Policy) > 0 {
		addExplicit(b, 1, func(b *cryptobyte.Builder) { addPolicy(b, t.Policy) })
	}
	if len(t.Secret) > 0 {
		addExplicit(b, 2, func(b *cryptobyte.Builder) { b.AddASN1OctetString(t.Secret) })
	}
	if len(t.AuthPolicy) > 0 {
		addExplicit(b, 3, func(b *cryptobyte.Builder) { addAuthPolicy(b, t.AuthPolicy) })
	}
	if t.Description != "" {
		addExplicit(b, 4, func(b *cryptobyte.Builder) { addText(b, t.Description) })
	}
	if t.RSAParent {
		addExplicit(b, 5, func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
	}
	b.AddASN1Uint64(uint64(t.Parent))
	b.AddASN1OctetString(t.Public)
}

func (t *TSS2) addOldFields(b *cryptobyte.Builder) {
	addExplicit(b, 1, func(b *cryptobyte.Builder) { b.AddASN1Uint64(uint64(t.Parent)) })
	addExplicit(b, 2, func(b *cryptobyte.Builder) { b.AddASN1OctetString(t.Public) })
	if len(t.Policy) > 0 {
		addExplicit(b, 3, func(b *cryptobyte.Builder) { addPolicy(b, t.Policy) })
	}
}
