package blob

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/pubarea"
)

// tss2Of makes the DER of a key file from its object identifier, as prefix and last
// number, and its fields.
func tss2Of(prefix []byte, last byte, fields ...[]byte) []byte {
	oid := bytes.Clone(prefix)
	if last != 0 {
		oid = append(oid, last)
	}
	return derElement(asn1.SEQUENCE, append(derElement(asn1.OBJECT_IDENTIFIER, oid), bytes.Join(fields, nil)...))
}

// explicitly puts a field into [n].
func explicitly(n byte, field []byte) []byte { return derElement(asn1.Tag(0xa0|n), field) }

var (
	isTrue      = explicitly(0, []byte{1, 1, 0xff})
	isFalse     = explicitly(0, []byte{1, 1, 0})
	parentOwner = []byte{2, 4, 0x40, 0, 0, 1}
)

func octets(b []byte) []byte { return derElement(asn1.OCTET_STRING, b) }

// commandDER is a TPMPolicy.
func commandDER(code []byte, body []byte) []byte {
	return derElement(asn1.SEQUENCE, append(explicitly(0, derElement(asn1.INTEGER, code)), explicitly(1, octets(body))...))
}

func sequence(elements ...[]byte) []byte {
	return derElement(asn1.SEQUENCE, bytes.Join(elements, nil))
}

// parts are a public and a private part, and those of an importable key with its secret.
type parts struct{ pub, priv, importable, duplicate, secret []byte }

func fixtureParts(t testing.TB) parts {
	k, i := mustTSS2(t, "e2-p256"), mustTSS2(t, "e2-import-ec")
	return parts{octets(k.Public), octets(k.Private), octets(i.Public), octets(i.Private), octets(i.Secret)}
}

func TestTSS2Deviations(t *testing.T) {
	p := fixtureParts(t)
	authValue := commandDER([]byte{1, 0x6b}, nil)
	for _, c := range []struct {
		name      string
		der       []byte
		emptyAuth bool
		parent    uint32
		old       bool
		check     func(*TSS2) bool
	}{
		{"TRUE", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, p.priv), true, handleOwner, false, nil},
		{"TRUE as 01", tss2Of(oidTSS2, 3, explicitly(0, []byte{1, 1, 1}), parentOwner, p.pub, p.priv), true, handleOwner, false, nil},
		{"TRUE as 80", tss2Of(oidTSS2, 3, explicitly(0, []byte{1, 1, 0x80}), parentOwner, p.pub, p.priv), true, handleOwner, false, nil},
		{"FALSE", tss2Of(oidTSS2, 3, isFalse, parentOwner, p.pub, p.priv), false, handleOwner, false, nil},
		{"no emptyAuth", tss2Of(oidTSS2, 3, parentOwner, p.pub, p.priv), false, handleOwner, false, nil},
		{"parent 0", tss2Of(oidTSS2, 3, isTrue, []byte{2, 1, 0}, p.pub, p.priv), true, handleOwner, false, nil},
		{"parent positive", tss2Of(oidTSS2, 3, isTrue, []byte{2, 5, 0, 0x81, 0, 0, 1}, p.pub, p.priv), true, persistentRSA, false, nil},
		{"parent negative", tss2Of(oidTSS2, 3, isTrue, []byte{2, 4, 0x81, 0, 0, 1}, p.pub, p.priv), true, persistentRSA, false, nil},
		{"endorsement hierarchy", tss2Of(oidTSS2, 3, isTrue, []byte{2, 4, 0x40, 0, 0, 11}, p.pub, p.priv), true, 0x4000000b, false, nil},
		{"description", tss2Of(oidTSS2, 3, isTrue, explicitly(4, derElement(asn1.UTF8String, []byte("ma clé"))), parentOwner, p.pub, p.priv), true, handleOwner, false,
			func(t *TSS2) bool { return t.Description == "ma clé" }},
		{"empty description", tss2Of(oidTSS2, 3, isTrue, explicitly(4, derElement(asn1.UTF8String, nil)), parentOwner, p.pub, p.priv), true, handleOwner, false, nil},
		{"rsaParent", tss2Of(oidTSS2, 3, isTrue, explicitly(5, []byte{1, 1, 1}), parentOwner, p.pub, p.priv), true, handleOwner, false,
			func(t *TSS2) bool { return t.RSAParent }},
		{"rsaParent FALSE", tss2Of(oidTSS2, 3, isTrue, explicitly(5, []byte{1, 1, 0}), parentOwner, p.pub, p.priv), true, handleOwner, false,
			func(t *TSS2) bool { return !t.RSAParent }},
		{"policies", tss2Of(oidTSS2, 3, explicitly(1, sequence(authValue, authValue)), explicitly(3, sequence(
			sequence(explicitly(0, derElement(asn1.UTF8String, []byte("a"))), explicitly(1, sequence(authValue))),
			sequence(explicitly(1, sequence())))), parentOwner, p.pub, p.priv), false, handleOwner, false,
			func(t *TSS2) bool {
				return len(t.Policy) == 2 && len(t.AuthPolicy) == 2 && t.AuthPolicy[0].Name == "a" && len(t.AuthPolicy[0].Policy) == 1 && t.Policy[1].Code == 0x16b
			}},
		{"empty policy", tss2Of(oidTSS2, 3, explicitly(1, sequence()), parentOwner, p.pub, p.priv), false, handleOwner, false, nil},
		{"importable", tss2Of(oidTSS2, 4, isTrue, explicitly(2, p.secret), parentOwner, p.importable, p.duplicate), true, handleOwner, false,
			func(t *TSS2) bool { return t.Importable() && t.Type == TSS2Importable }},
		{"all fields", tss2Of(oidTSS2, 4, isTrue, explicitly(1, sequence(authValue)), explicitly(2, p.secret), explicitly(3, sequence()),
			explicitly(4, derElement(asn1.UTF8String, []byte("x"))), explicitly(5, []byte{1, 1, 0xff}), parentOwner, p.importable, p.duplicate), true, handleOwner, false, nil},
		{"old", tss2Of(oidOld, 0, isTrue, explicitly(1, parentOwner), explicitly(2, p.pub), p.priv), true, handleOwner, true,
			func(t *TSS2) bool { return t.container.old() }},
		{"old, negative parent", tss2Of(oidOld, 0, explicitly(0, []byte{1, 1, 1}), explicitly(1, []byte{2, 4, 0x81, 0, 0, 1}), explicitly(2, p.pub), p.priv), true, persistentRSA, true, nil},
		{"old, no emptyAuth and no parent", tss2Of(oidOld, 0, explicitly(2, p.pub), p.priv), false, handleOwner, true, nil},
		{"old, policy", tss2Of(oidOld, 0, explicitly(1, parentOwner), explicitly(2, p.pub), explicitly(3, sequence(authValue)), p.priv), false, handleOwner, true,
			func(t *TSS2) bool { return len(t.Policy) == 1 }},
		{"old identifier, new layout", tss2Of(oidOld, 0, isTrue, parentOwner, p.pub, p.priv), true, handleOwner, false, nil},
		{"old identifier, new layout, policy", tss2Of(oidOld, 0, explicitly(1, sequence(authValue)), parentOwner, p.pub, p.priv), false, handleOwner, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := parseAs[*TSS2](c.der)
			if err != nil {
				t.Fatal(err)
			}
			if k.EmptyAuth != c.emptyAuth || k.Parent != c.parent || (k.Container() == TSS2BlobDER) != c.old || c.check != nil && !c.check(k) {
				t.Errorf("%v: %+v", k.Container(), k)
			}
			if got, err := k.Marshal(k.Container()); err != nil || !bytes.Equal(got, c.der) {
				t.Errorf("written back differently (error %v)", err)
			}
			text, label := TSS2PEM, pemTSS2
			if c.old {
				text, label = TSS2BlobPEM, pemTSS2Blob
			}
			file := pemOf(label, c.der)
			again, err := parseAs[*TSS2](file)
			if err != nil || again.Container() != text || !again.same(k) {
				t.Fatalf("PEM: %v, error %v", again, err)
			}
			if got, err := again.Marshal(text); err != nil || !bytes.Equal(got, file) {
				t.Errorf("PEM written back differently (error %v)", err)
			}
			canonical(t, k)
		})
	}
}

// canonical checks what is written of a key that did not come from a file.
func canonical(t *testing.T, k *TSS2) {
	t.Helper()
	fresh := k.clone()
	fresh.container = k.container
	der, err := fresh.Marshal(k.Container())
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseAs[*TSS2](der)
	if err != nil || !again.same(k) {
		t.Fatalf("canonical form is another key (error %v)", err)
	}
	want := isFalse
	if k.EmptyAuth {
		want = isTrue
	}
	if !bytes.Contains(der[:24], want) {
		t.Errorf("no emptyAuth in so many words: %x", der[:24])
	}
}

func TestTSS2Damaged(t *testing.T) {
	p := fixtureParts(t)
	good := tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, p.priv)
	authValue := commandDER([]byte{1, 0x6b}, nil)
	policy := func(commands ...[]byte) []byte {
		return tss2Of(oidTSS2, 3, explicitly(1, sequence(commands...)), parentOwner, p.pub, p.priv)
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"more behind", append(bytes.Clone(good), 0), "1 bytes too many after TPMKey"},
		{"more inside", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, p.priv, []byte{5, 0}), "2 bytes too many"},
		{"more in emptyAuth", tss2Of(oidTSS2, 3, explicitly(0, []byte{1, 1, 0, 5, 0}), parentOwner, p.pub, p.priv), "emptyAuth"},
		{"long emptyAuth", tss2Of(oidTSS2, 3, explicitly(0, []byte{1, 2, 0, 0}), parentOwner, p.pub, p.priv), "BOOLEAN of 2 bytes"},
		{"emptyAuth without BOOLEAN", tss2Of(oidTSS2, 3, explicitly(0, nil), parentOwner, p.pub, p.priv), "emptyAuth"},
		{"fields in the wrong order", tss2Of(oidTSS2, 3, explicitly(5, []byte{1, 1, 1}), isTrue, parentOwner, p.pub, p.priv), "parent"},
		{"an unknown field", tss2Of(oidTSS2, 3, isTrue, explicitly(6, []byte{5, 0}), parentOwner, p.pub, p.priv), "parent"},
		{"no parent", tss2Of(oidTSS2, 3, isTrue, p.pub, p.priv), "parent"},
		{"parent not minimal", tss2Of(oidTSS2, 3, isTrue, []byte{2, 5, 0, 0x40, 0, 0, 1}, p.pub, p.priv), "parent is no INTEGER of 32 bits"},
		{"parent of 33 bits", tss2Of(oidTSS2, 3, isTrue, []byte{2, 5, 1, 0x40, 0, 0, 1}, p.pub, p.priv), "parent is no INTEGER of 32 bits"},
		{"parent empty", tss2Of(oidTSS2, 3, isTrue, []byte{2, 0}, p.pub, p.priv), "parent"},
		{"parent transient", tss2Of(oidTSS2, 3, isTrue, []byte{2, 4, 0x80, 0, 0, 0}, p.pub, p.priv), "parent is 0x80000000"},
		{"parent -1", tss2Of(oidTSS2, 3, isTrue, []byte{2, 1, 0xff}, p.pub, p.priv), "parent is 0xffffffff"},
		{"parent 1", tss2Of(oidTSS2, 3, isTrue, []byte{2, 1, 1}, p.pub, p.priv), "parent is 0x00000001"},
		{"no private part", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub), "privkey"},
		{"empty private part", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, octets([]byte{0, 0})), "private part is empty"},
		{"private part too long", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, octets([]byte{0, 1, 1, 1})), "1 bytes too many after private part"},
		{"private part too short", tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, octets([]byte{0, 3, 1, 1})), "private part needs 3 bytes, 2 left"},
		{"public part without size", tss2Of(oidTSS2, 3, isTrue, parentOwner, octets([]byte{1}), p.priv), "public area size"},
		{"secret of a loadable key", tss2Of(oidTSS2, 3, explicitly(2, p.secret), parentOwner, p.importable, p.duplicate), "loadable key has a secret"},
		{"importable key without secret", tss2Of(oidTSS2, 4, parentOwner, p.importable, p.duplicate), "has no secret"},
		{"secret too long", tss2Of(oidTSS2, 4, explicitly(2, octets([]byte{0, 1, 1, 1})), parentOwner, p.importable, p.duplicate), "too many after secret"},
		{"importable key without wrapper", tss2Of(oidTSS2, 4, explicitly(2, p.secret), parentOwner, p.importable, octets([]byte{0, 2, 1, 1})), "outer wrapper"},
		{"a key as sealed data", tss2Of(oidTSS2, 5, isTrue, parentOwner, p.pub, p.priv), "that of a key"},
		{"description not UTF-8", tss2Of(oidTSS2, 3, explicitly(4, derElement(asn1.UTF8String, []byte{0xff})), parentOwner, p.pub, p.priv), "UTF-8"},
		{"description of another type", tss2Of(oidTSS2, 3, explicitly(4, derElement(asn1.PrintableString, []byte("a"))), parentOwner, p.pub, p.priv), "description"},
		{"negative command", policy(commandDER([]byte{0xff}, nil)), "commandCode"},
		{"huge command", policy(commandDER([]byte{1, 0, 0, 0, 0}, nil)), "commandCode"},
		{"command without body", policy(sequence(explicitly(0, []byte{2, 1, 1}))), "commandPolicy"},
		{"command with more", policy(sequence(explicitly(0, []byte{2, 1, 1}), explicitly(1, octets(nil)), []byte{5, 0})), "TPMPolicy"},
		{"too many commands", policy(bytes.Repeat(authValue, maxCommands+1)), "more than 64 commands"},
		{"signed policy without commands", tss2Of(oidTSS2, 3, explicitly(3, sequence(sequence())), parentOwner, p.pub, p.priv), "policy is missing"},
		{"too many signed policies", tss2Of(oidTSS2, 3, explicitly(3, sequence(bytes.Repeat(sequence(explicitly(1, sequence())), maxPolicies+1))), parentOwner, p.pub, p.priv), "more than 64 policies"},
		{"old without public part", tss2Of(oidOld, 0, isTrue, explicitly(1, parentOwner), p.priv), "public area size"},
		{"old with more", tss2Of(oidOld, 0, isTrue, explicitly(2, p.pub), p.priv, []byte{5, 0}), "too many"},
		{"indefinite length", append([]byte{0x30, 0x80}, good[2:]...), ""},
		{"new form in an old PEM block", pemOf(pemTSS2Blob, good), "does not hold the form"},
		{"old form in a new PEM block", pemOf(pemTSS2, tss2Of(oidOld, 0, explicitly(2, p.pub), p.priv)), "does not hold the form"},
		{"bad base64", []byte("-----BEGIN TSS2 PRIVATE KEY-----\n?\n-----END TSS2 PRIVATE KEY-----\n"), "bad base64"},
		{"header lines", []byte("-----BEGIN TSS2 PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"), "is encrypted (Proc-Type)"},
		{"two keys", bytes.Repeat(pemOf(pemTSS2, good), 2), "two PEM blocks"},
		{"keys of both generations", append(pemOf(pemTSS2, good), readFile(t, tutorial+"/maclef")...), "two PEM blocks"},
	} {
		k, err := Parse(c.data)
		if k != nil || c.want != "" && !errors.Is(err, ErrDamaged) || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: key %v, error %v", c.name, k != nil, err)
		}
	}
}

func TestTSS2Truncated(t *testing.T) {
	for _, name := range []string{"e2-import-ec", "e2-p256-pcr", "pv-rsa"} {
		file := readFile(t, tpm20Files+"/"+name+".pem")
		for n := range len(file) - 1 { // the last line end may be missing
			if _, err := Parse(file[:n]); err == nil {
				t.Errorf("%s: read from %d of %d bytes", name, n, len(file))
			} else if n > 40 && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
		block, _ := pem.Decode(file)
		for n := range block.Bytes {
			if _, err := Parse(block.Bytes[:n]); err == nil {
				t.Errorf("%s: read from %d of %d bytes of DER", name, n, len(block.Bytes))
			} else if n > 12 && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, %d bytes of DER: %v", name, n, err)
			}
		}
	}
}

// TestTSS2Mutations changes bytes of the DER of each fixture: what is still a key must
// be one that can be explained and written.
func TestTSS2Mutations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range tss2Fixtures {
		block, _ := pem.Decode(readFile(t, tpm20Files+"/"+f.name+".pem"))
		for i := range 400 {
			der := bytes.Clone(block.Bytes)
			for range 1 + i%3 {
				at := r.IntN(len(der))
				if i%2 == 0 {
					at = r.IntN(min(len(der), 64))
				}
				der[at] ^= byte(1 + r.IntN(255))
			}
			if err := exercise(der); err != nil {
				t.Fatalf("%s: %x: %v", f.name, der, err)
			}
		}
	}
}

// exercise does with a file all that can be done without a TPM, and tells what is
// inconsistent.
func exercise(data []byte) error {
	key, err := Parse(data)
	if err != nil {
		if key != nil || err.Error() == "" {
			return fmt.Errorf("key %v, error %q", key, err)
		}
		return nil
	}
	k, ok := key.(*TSS2)
	if !ok {
		return nil
	}
	if (k.PublicKey() == nil) != (k.Unsupported() != nil) {
		return fmt.Errorf("public key %v, unsupported %v", k.PublicKey(), k.Unsupported())
	}
	if k.PublicKey() != nil && pubarea.TPMT(k.Public) == nil {
		return errors.New("no area")
	}
	if (k.CanSign() || k.CanDecrypt() || k.CanAgree()) && k.PublicKey() == nil {
		return errors.New("can do something without a public key")
	}
	k.NeedsSecret()
	if k.Container() == ESYSObject { // Marshal refuses it
		if name, err := k.Name(); k.Handle == 0 || err != nil || len(name) < 22 {
			return fmt.Errorf("handle %#x, name %x, error %v", k.Handle, name, err)
		}
		return nil
	}
	written, err := k.Marshal(k.Container())
	if err != nil {
		return err
	}
	if k.Container() == TSS2DER && !bytes.Equal(written, data) {
		return errors.New("written back differently")
	}
	changed := k.clone()
	changed.container = k.container
	if written, err = changed.Marshal(k.Container()); err != nil {
		return err
	}
	again, err := parseAs[*TSS2](written)
	if err != nil || !again.same(k) {
		return fmt.Errorf("the canonical form is another key: %v", err)
	}
	return nil
}

func TestTSS2MarshalRefuses(t *testing.T) {
	p := fixtureParts(t)
	parse := func(der []byte) *TSS2 {
		k, err := parseAs[*TSS2](der)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := parse(tss2Of(oidTSS2, 3, isTrue, parentOwner, p.pub, p.priv))
	old := parse(tss2Of(oidOld, 0, isTrue, explicitly(1, parentOwner), explicitly(2, p.pub), p.priv))
	oldPersistent := parse(tss2Of(oidOld, 0, isTrue, explicitly(1, []byte{2, 4, 0x81, 0, 0, 1}), explicitly(2, p.pub), p.priv))
	importable := parse(tss2Of(oidTSS2, 4, isTrue, explicitly(2, p.secret), parentOwner, p.importable, p.duplicate))
	broken := &TSS2{Parent: handleOwner}
	for _, c := range []struct {
		name string
		key  *TSS2
		to   Container
		want string
	}{
		{"PEM of TPM 1.2", k, PEM, "TPM 2.0"},
		{"unknown", k, Container(99), "TPM 2.0"},
		{"new as old", k, TSS2BlobPEM, "another primary key"},
		{"old as new", old, TSS2PEM, "another primary key"},
		{"importable as old", importable, TSS2BlobDER, "loadable keys only"},
		{"in the TPM", &TSS2{Handle: persistentRSA, Public: k.Public}, TSS2PEM, "has no file"},
		{"nothing", broken, TSS2PEM, "public area"},
	} {
		if _, err := c.key.Marshal(c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if file, err := oldPersistent.Marshal(TSS2PEM); err != nil {
		t.Error(err)
	} else if again, err := parseAs[*TSS2](file); err != nil || !again.same(oldPersistent) || again.Container() != TSS2PEM {
		t.Errorf("old key in the new form: %v", err)
	}
	// A change is written, whatever the file was.
	k.Description = "changed"
	if file, err := k.Marshal(TSS2DER); err != nil {
		t.Error(err)
	} else if again, err := parseAs[*TSS2](file); err != nil || again.Description != "changed" {
		t.Errorf("a change is lost (error %v)", err)
	}
}
