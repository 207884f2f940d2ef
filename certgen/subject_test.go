package main

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"maclef/internal/cli"
	"maclef/internal/tpmtest"
)

// TestSubjectAsOpenSSL compares the DER name with that of openssl req, byte by
// byte.
func TestSubjectAsOpenSSL(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	key := filepath.Join(t.TempDir(), "key.pem")
	openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
	for _, text := range []string{
		"/CN=localhost",
		"/C=FR/ST=Île-de-France/L=Paris/O=Ma boutique/OU=Vélos/CN=www.example.org/emailAddress=moi@example.org",
		"/CN=b/CN=a/O=z/C=fr",
		"/countryName=DE/commonName=lang/surname=Müller/givenName=Zoë/stateOrProvinceName=x/localityName=y",
		`/O=a\/b\+c\\d\=e\x=f/CN="quoted", #1; <x>`,
		"/CN= space /O=a=b=c",
		"/OU=x+CN=y", "/CN=y+OU=x", "/CN=a+O=bb+L=c+CN=0/O=z", "/CN=longer+CN=long",
		"/CN=a/O=", "/O=/CN=a", "/CN=a+O=/OU=b", "/CN=a+O=+OU=b", "/CN=a/", "/",
		"/serialNumber=12-34/SN=s/GN=g/title=t/initials=i/name=n/pseudonym=p/dnQualifier=q/generationQualifier=III",
		"/DC=org/DC=example/UID=u/mail=a@b/street=s/postalCode=75001/description=d/businessCategory=b",
		"/jurisdictionC=FR/jurisdictionST=s/jurisdictionL=l/organizationIdentifier=VATFR-1",
		"/2.5.4.3=a/1.2.840.113549.1.9.1=b@c/2.5.4.6=FR",
		"/CN=𝄞☃ü/O=日本",
	} {
		var s subject
		if err := s.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		want := opensslSubject(t, key, text)
		if got := s.marshal(); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x\nopenssl:\n%x", text, got, want)
		}
	}
}

func opensslSubject(t *testing.T, key, text string) []byte {
	t.Helper()
	out := openssl(t, "req", "-new", "-key", key, "-utf8", "-subj", text)
	block, _ := pem.Decode(out)
	if block == nil {
		t.Fatalf("%s: openssl printed %q", text, out)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return csr.RawSubject
}

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command("openssl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// TestKnownTypes: OpenSSL knows every type by the same names, as the same object
// identifier and kind of string.
func TestKnownTypes(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
	var text strings.Builder
	for _, a := range attributeTypes {
		text.WriteString("/" + a.name + "=ab/" + a.oid.String() + "=cd")
		if a.long != "" {
			text.WriteString("/" + a.long + "=ef")
		}
	}
	var s subject
	if err := s.Set(text.String()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.marshal(), opensslSubject(t, key, text.String()); !bytes.Equal(got, want) {
		t.Errorf("%x\nopenssl:\n%x", got, want)
	}
}

func TestBadSubject(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "begins with /"},
		{"no slash", "CN=a", "begins with /"},
		{"no equals sign", "/CN", `"CN" has no =`},
		{"slash in a value", "/CN=a/b", `"b" has no =`},
		{"plus in a value", "/CN=a+b", `"b" has no =`},
		{"two slashes", "//CN=a", `unknown attribute "/CN"`},
		{"no type", "/=a", `unknown attribute ""`},
		{"other case", "/cn=a", `unknown attribute "cn"`},
		{"space", "/ CN=a", `unknown attribute " CN"`},
		{"unknown without a value", "/XX=", `unknown attribute "XX"`},
		{"escape at the end", `/CN=a\`, "ends with a single"},
		{"one arc", "/2=a", "unknown attribute"},
		{"first arc", "/3.1=a", "unknown attribute"},
		{"second arc", "/1.40=a", "unknown attribute"},
		{"huge arc", "/1.3.99999999999=a", "unknown attribute"},
		{"huge second arc", "/2.2147483647=a", "unknown attribute"},
		{"leading zero", "/2.5.04.3=a", "unknown attribute"},
		{"country", "/C=FRA", "two letters"},
		{"country by number", "/2.5.4.6=F", "two letters"},
		{"country not ASCII", "/C=éé", "two letters"},
		{"long name", "/CN=" + strings.Repeat("é", 65), "at most 64 characters, and this has 65"},
		{"not UTF-8", "/CN=\xff", "not valid UTF-8"},
		{"control character", "/CN=a\nb", "cannot have the character '\\n'"},
		{"mail", "/emailAddress=é@b", "ASCII"},
		{"printable", "/serialNumber=a*", "letters, digits"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s subject
			err := s.Set(row.text)
			var usage *cli.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestSubjectOrderAndSkips(t *testing.T) {
	var s subject
	if err := s.Set(`/O=/CN=\/x+OU=+L=\+`); err != nil {
		t.Fatal(err)
	}
	if got, want := s.String(), `/CN=\/x+L=\+`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := []string{"O", "OU"}; !slices.Equal(s.skipped, want) {
		t.Errorf("skipped %v, want %v", s.skipped, want)
	}
	if err := s.Set("/CN=y"); err != nil || s.String() != "/CN=y" || s.skipped != nil {
		t.Errorf("the last -subj does not win: %v, %v", s, err)
	}
}

// FuzzSubject: what is accepted is a Name that Go reads, with as many attributes,
// and its own text stands for the same.
func FuzzSubject(f *testing.F) {
	for _, seed := range []string{
		"/C=FR/O=Org/CN=localhost", `/CN=a\/b\+c\\+OU=x`, "/O=/CN=a+L=", "/2.999.1=é", "/", "CN=a", "/CN=a/b", `/CN=\`, "/1.39.2147483647=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s subject
		if s.Set(text) != nil {
			return
		}
		der := s.marshal()
		var parsed pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &parsed); err != nil || len(rest) > 0 {
			t.Fatalf("%q: %x: %v", text, der, err)
		}
		for i, element := range s.rdns {
			if len(parsed) != len(s.rdns) || len(parsed[i]) != len(element) {
				t.Fatalf("%q: parsed as %v", text, parsed)
			}
		}
		if len(s.rdns) == 0 {
			return
		}
		var again subject
		if err := again.Set(s.String()); err != nil || !bytes.Equal(again.marshal(), der) {
			t.Fatalf("%q: again %q: %v", text, s.String(), err)
		}
	})
}

// TestSameName: OpenSSL compares names without case, spaces and string types.
func TestSameName(t *testing.T) {
	mine := func(text string) []byte {
		var s subject
		if err := s.Set(text); err != nil {
			t.Fatal(err)
		}
		return s.marshal()
	}
	theirs, err := asn1.Marshal(pkix.Name{Organization: []string{"Maison"}, CommonName: "CA"}.ToRDNSequence()) // PrintableString
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		a, b []byte
		same bool
	}{
		{mine("/O=Maison/CN=CA"), theirs, true},
		{mine("/O=maison /CN=ca"), theirs, true},
		{mine("/CN=a  B"), mine("/CN=A b"), true},
		{mine("/"), mine("/"), true},
		{mine("/CN=CA/O=Maison"), theirs, false},
		{mine("/O=Maison+CN=CA"), theirs, false},
		{mine("/CN=ab"), mine("/CN=a b"), false},
		{mine("/CN=a"), mine("/OU=a"), false},
		{mine("/CN=a"), []byte("x"), false},
	} {
		if sameName(row.a, row.b) != row.same {
			t.Errorf("%x and %x: the same is %v", row.a, row.b, !row.same)
		}
	}
}
