package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maclef/internal/pubarea"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// tss2Fixtures are the key files of other programs for TPM 2.0, as they were made.
var tss2Fixtures = []struct {
	name     string
	kind     TSS2Type
	parent   uint32
	secret   bool
	can      string
	public   string // file with the same public key, if there is one
	policies int
}{
	{"e2-rsa", TSS2Loadable, handleOwner, false, "sign decrypt", "", 0},
	{"e2-p256", TSS2Loadable, handleOwner, false, "sign agree", "", 0},
	{"e2-p384", TSS2Loadable, handleOwner, false, "sign agree", "", 0},
	{"e2-rsa-auth", TSS2Loadable, handleOwner, true, "sign decrypt", "", 0},
	{"e2-rsa-auth-da", TSS2Loadable, handleOwner, true, "sign decrypt", "", 0},
	{"e2-p256-auth", TSS2Loadable, handleOwner, true, "sign agree", "", 0},
	{"e2-rsa-81000001", TSS2Loadable, persistentRSA, false, "sign decrypt", "", 0},
	{"e2-p256-81000001", TSS2Loadable, persistentRSA, false, "sign agree", "", 0},
	{"e2-wrap-rsa", TSS2Loadable, handleOwner, false, "sign decrypt", "wrap-rsa.key.pem", 0},
	{"e2-wrap-ec", TSS2Loadable, handleOwner, false, "sign agree", "wrap-ec.key.pem", 0},
	{"e2-import-rsa", TSS2Importable, persistentRSA, false, "sign decrypt", "wrap-rsa.key.pem", 0},
	{"e2-import-ec", TSS2Importable, persistentRSA, false, "sign agree", "wrap-ec.key.pem", 0},
	{"e2-rsa-pcr16", TSS2Loadable, handleOwner, false, "sign decrypt", "", 1},
	{"e2-p256-pcr", TSS2Loadable, handleOwner, false, "sign agree", "", 1},
	{"e2-sealed", TSS2Sealed, handleOwner, false, "", "", 0},
	{"pv-rsa", TSS2Loadable, handleOwner, false, "sign decrypt", "pv-rsa.pub.pem", 0},
	{"pv-p256", TSS2Loadable, handleOwner, false, "sign agree", "pv-p256.pub.pem", 0},
	{"pv-p384", TSS2Loadable, handleOwner, false, "sign agree", "pv-p384.pub.pem", 0},
	{"pv-rsa-auth", TSS2Loadable, handleOwner, true, "sign decrypt", "", 0},
	{"pv-p256-81000001", TSS2Loadable, persistentRSA, false, "sign agree", "pv-p256-81000001.pub.pem", 0},
	{"pv-pss", TSS2Loadable, handleOwner, false, "sign", "", 0},
	// Made without a password: tpm2_encodeobject 5.4 writes the opposite.
	{"tools-rsa", TSS2Loadable, handleOwner, true, "sign decrypt", "", 0},
	{"tools-p256-noda", TSS2Loadable, persistentRSA, true, "sign agree", "", 0},
	// Made with one.
	{"tools-p256-auth", TSS2Loadable, persistentRSA, false, "sign agree", "", 0},
	{"tools-p256-noda-auth", TSS2Loadable, persistentRSA, false, "sign agree", "", 0},
}

func TestTSS2Fixtures(t *testing.T) {
	for _, f := range tss2Fixtures {
		t.Run(f.name, func(t *testing.T) {
			data := readFile(t, tpm20Files+"/"+f.name+".pem")
			k := mustTSS2(t, f.name)
			if k.Container() != TSS2PEM || k.Type != f.kind || k.Parent != f.parent || k.NeedsSecret() != f.secret ||
				k.Importable() != (f.kind == TSS2Importable) || k.Sealed() != (f.kind == TSS2Sealed) {
				t.Errorf("%v, %v, parent %08x, secret %v", k.Container(), k.Type, k.Parent, k.NeedsSecret())
			}
			if got := cans(k); got != f.can {
				t.Errorf("can %q, want %q", got, f.can)
			}
			if (k.PublicKey() == nil) != (f.kind == TSS2Sealed) || (k.Unsupported() == nil) != (k.PublicKey() != nil) {
				t.Errorf("public key %v, unsupported %v", k.PublicKey(), k.Unsupported())
			}
			if f.public != "" && !k.PublicKey().(interface{ Equal(crypto.PublicKey) bool }).Equal(publicOf(t, f.public)) {
				t.Error("another public key")
			}
			area := pubarea.TPMT(k.Public)
			name, err := tpm2.ObjectName(area)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.Name(); err != nil || !bytes.Equal(got, name.Buffer) {
				t.Errorf("name %x, error %v", got, err)
			}
			if len(k.Policy) != f.policies {
				t.Errorf("%d commands", len(k.Policy))
			}
			if got, err := k.Marshal(TSS2PEM); err != nil || !bytes.Equal(got, data) {
				t.Errorf("written back differently (error %v):\n%s", err, got)
			}
			block, _ := pem.Decode(data)
			if got, err := k.Marshal(TSS2DER); err != nil || !bytes.Equal(got, block.Bytes) {
				t.Errorf("another DER (error %v)", err)
			}
			if again, err := parseAs[*TSS2](block.Bytes); err != nil || again.Container() != TSS2DER || !again.same(k) {
				t.Errorf("DER not read (error %v)", err)
			}
		})
	}
}

// A file that tpm2-openssl writes of a key that the TPM keeps has its handle in place of the private
// part. This is one of tpm2-openssl 1.1.1: openssl pkey -provider tpm2 -in handle:0x81010001.
func TestTSS2OfHandle(t *testing.T) {
	const file = `-----BEGIN TSS2 PRIVATE KEY-----
MHIGBmeBBQoBA6ADAQEBAgRAAAABBFgAVgAjAAsABARyAAAAEAAQAAMAEAAgLFDg
f9NTcs6yiWDJ9/cFBSWVRPO8B1T+z93Kret83cwAIEE8MsKwG9xf3iWEo7kth3h3
cgmIvIM5K+fRZcU9w6ulBAMAAQE=
-----END TSS2 PRIVATE KEY-----
`
	k, err := parseAs[*TSS2]([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if k.Handle != 0x81010001 || !k.EmptyAuth || !k.CanSign() {
		t.Errorf("handle %#x, %+v", k.Handle, k)
	}
	if got, err := k.Marshal(TSS2PEM); err != nil || string(got) != file {
		t.Errorf("written back as %s, %v", got, err)
	}
	for private, want := range map[string]uint32{ // also of tpm2-openssl 1.1.1
		"\x00\x01\x01": 0x81010001, "\x00\x02\x00\x81": 0x81000002,
		"\x00\x10\x01\x81" + strings.Repeat("\x00", 14): 0x81010010, "\x00\xa3\x00\x81" + strings.Repeat("\x00", 0xa3-2): 0x810000a3,
		"\x00\x02\x00\x80": 0, "\x00\x04\x00\x81\x00\x01": 0, "\x00\x03\x00\x81": 0, "\x00\x00": 0,
		string(mustTSS2(t, "pv-p256").Private): 0,
	} {
		if got := handleIn([]byte(private)); got != want {
			t.Errorf("%x: %#x, want %#x", private, got, want)
		}
		other := *k
		other.Private, other.Handle, other.der = []byte(private), want, nil
		if written, err := other.Marshal(TSS2DER); err == nil {
			if again, err := parseAs[*TSS2](written); err != nil || again.Handle != want {
				t.Errorf("%x: read back with %v", private, err)
			}
		} else if want != 0 {
			t.Errorf("%x: %v", private, err)
		}
	}
	k.Private, k.Handle, k.der = []byte{0, 0}, 0, nil
	if _, err := k.Marshal(TSS2DER); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "use the key by its handle") {
		t.Error(err)
	}
}

func cans(k Key) string {
	var can []string
	if k.CanSign() {
		can = append(can, "sign")
	}
	if k.CanDecrypt() {
		can = append(can, "decrypt")
	}
	if k.CanAgree() {
		can = append(can, "agree")
	}
	return strings.Join(can, " ")
}

// publicOf reads the public key of a PEM file of OpenSSL.
func publicOf(t *testing.T, name string) any {
	t.Helper()
	block, _ := pem.Decode(readFile(t, filepath.Join(tpm20Files, name)))
	if public, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		return public
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if private, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	switch private := private.(type) {
	case *rsa.PrivateKey:
		return private.Public()
	case *ecdsa.PrivateKey:
		return private.Public()
	}
	return nil
}

func TestNoTSS2FixtureForgotten(t *testing.T) {
	known := map[string]bool{"srk.esys": true} // see TestESYSObject
	for _, f := range tss2Fixtures {
		known[f.name+".pem"] = true
	}
	files, err := os.ReadDir(tpm20Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		_, err := Parse(readFile(t, filepath.Join(tpm20Files, f.Name())))
		if known[f.Name()] != (err == nil) {
			t.Errorf("%s: error %v", f.Name(), err)
		}
	}
}

func TestPair(t *testing.T) {
	for _, name := range []string{"tools-rsa", "tools-p256"} {
		pub, priv := readFile(t, tpm20Files+"/"+name+".pub"), readFile(t, tpm20Files+"/"+name+".priv")
		k, err := ParsePair(pub, priv)
		if err != nil {
			t.Fatal(err)
		}
		if k.Container() != TSS2Pair || !k.Guessed() || k.Parent != handleOwner || k.PublicKey() == nil || !k.CanSign() || !k.NeedsSecret() {
			t.Errorf("%s: %+v", name, k)
		}
		if !bytes.Equal(k.Public, pub) || !bytes.Equal(k.Private, priv) {
			t.Errorf("%s: other halves", name)
		}
		if _, err := k.Marshal(TSS2Pair); err == nil || !strings.Contains(err.Error(), "write Public and Private") {
			t.Errorf("%s: %v", name, err)
		}
		file, err := k.Marshal(TSS2PEM)
		if err != nil {
			t.Fatal(err)
		}
		if name == "tools-rsa" && !bytes.Equal(file, readFile(t, tpm20Files+"/tools-rsa.pem")) {
			t.Error("not what tpm2_encodeobject writes")
		}
		again, err := parseAs[*TSS2](file)
		if err != nil || again.Guessed() {
			t.Errorf("%s: guessed still, or error %v", name, err)
		}
	}
}

func TestPairRefuses(t *testing.T) {
	pub, priv := readFile(t, tpm20Files+"/tools-p256.pub"), readFile(t, tpm20Files+"/tools-p256.priv")
	for _, c := range []struct {
		name      string
		pub, priv []byte
		kind      error
		want      string
	}{
		{"exchanged", priv, pub, nil, "exchange the two"},
		{"no public half", nil, priv, ErrTruncated, "public half"},
		{"no private half", pub, nil, ErrTruncated, "private half"},
		{"public half cut", pub[:50], priv, ErrTruncated, "public half"},
		{"private half cut", pub, priv[:50], ErrTruncated, "private half"},
		{"public half with more", append(bytes.Clone(pub), 0), priv, ErrDamaged, "1 bytes too many"},
		{"private half with more", pub, append(bytes.Clone(priv), 0), ErrDamaged, "1 bytes too many"},
		{"public half twice", pub, pub, nil, "a second public half"},
		{"private half twice", priv, priv, nil, "a second private half"},
		{"empty private half", pub, []byte{0, 0}, ErrDamaged, "empty"},
	} {
		_, err := ParsePair(c.pub, c.priv)
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestHalves(t *testing.T) {
	for name, want := range map[string]Half{
		"tools-rsa.pub": PublicHalf, "tools-p256.pub": PublicHalf, "tools-rsa.priv": PrivateHalf, "tools-p256.priv": PrivateHalf,
		"tools-rsa.pem": NoHalf, "fox.txt": NoHalf, "pv-rsa.sha256.sig": NoHalf, "tpm2-00.permall": NoHalf,
	} {
		data := readFile(t, tpm20Files+"/"+name)
		if isPublicHalf(data) != (want == PublicHalf) || isPrivateHalf(data) != (want == PrivateHalf) {
			t.Errorf("%s: not %v", name, want)
		}
		var e *NotKeyError
		if _, err := Parse(data); errors.As(err, &e) && e.Half != want || want != NoHalf && e == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
