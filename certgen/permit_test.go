package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// softCA is a CA whose key is in software, as certgen makes them.
type softCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSoftCA(t *testing.T, permit string) softCA {
	t.Helper()
	key := newKey(t)
	o := testOptions(t, "-ca", "-permit", permit, "-usage", "server,client")
	now := time.Now()
	template, err := o.template(key.Public(), now.Add(-clockSkew), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	constrain(template, o.permit)
	template.ExtKeyUsage = *o.usage
	return softCA{parsed(t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)), key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parsed(t *testing.T) func([]byte, error) *x509.Certificate {
	return func(der []byte, err error) *x509.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
}

// TestConstraintsAsOpenSSL: certgen refuses exactly the certificates of a CA that OpenSSL refuses.
func TestConstraintsAsOpenSSL(t *testing.T) {
	tpmtest.Long(t, "it starts openssl many times")
	for _, row := range []struct {
		permit string
		args   []string // of -sign
		ok     bool
	}{
		{"www.example.org", []string{"-host", "www.example.org"}, true},
		{"www.example.org", []string{"-host", "WWW.example.ORG"}, true},
		{"www.example.org", []string{"-host", "example.org"}, false},
		{"www.example.org", []string{"-host", "notwww.example.org"}, false},
		{"www.example.org", []string{"-host", "a.www.example.org"}, false},
		{"www.example.org", []string{"-host", "*.www.example.org"}, false},
		{"www.example.org", []string{"-host", "*.example.org"}, false},
		{"www.example.org", []string{"-host", "www.example.org,localhost"}, false},
		{"www.example.org", []string{"-host", "127.0.0.1"}, false},
		{"www.example.org", []string{"-host", "::1"}, false},
		{"www.example.org", []string{"-san", "email:moi@www.example.org"}, false},
		{"www.example.org", []string{"-san", "URI:https://www.example.org/"}, false},
		{"www.example.org", []string{"-san", "DNS:www.example.org,email:moi@example.org"}, false},
		{"www.example.org", []string{"-no-host", "-subj", "/CN=Jean Dupont"}, true},
		{"www.example.org", []string{"-no-host", "-subj", "/CN=www.example.org"}, true},
		{"www.example.org", []string{"-no-host", "-subj", "/CN=www.example.com"}, false},
		{"www.example.org", []string{"-no-host", "-subj", "/CN=x/emailAddress=moi@example.org"}, false},
		{"www.example.org", []string{"-host", "www.example.org", "-subj", "/CN=www.example.com"}, true},
		{"www.example.org", []string{"-host", "www.example.org", "-subj", "/emailAddress=moi@example.org"}, false},
		{"a.example,b.example", []string{"-host", "b.example,a.example"}, true},
		{"192.0.2.1", []string{"-host", "192.0.2.1"}, true},
		{"192.0.2.1", []string{"-host", "192.0.2.1", "-subj", "/CN=192.0.2.1"}, false},
		{"192.0.2.1", []string{"-host", "192.0.2.2"}, false},
		{"192.0.2.1", []string{"-host", "::1"}, false},
		{"192.0.2.1", []string{"-host", "localhost"}, false},
		{"2001:db8::1", []string{"-host", "2001:db8::1"}, true},
		{"2001:db8::1", []string{"-host", "2001:db8::2"}, false},
		{"2001:db8::1,192.0.2.1", []string{"-host", "192.0.2.1,2001:db8::1"}, true},
		{"2001:db8::1,192.0.2.1,x.example", []string{"-host", "192.0.2.1,2001:db8::1,x.example"}, true},
	} {
		ca := newSoftCA(t, row.permit)
		o := testOptions(t, append([]string{"-sign", "request"}, row.args...)...)
		if !o.subjectGiven {
			if err := o.nameIssued(); err != nil {
				t.Fatal(err)
			}
		}
		public := newKey(t).Public()
		template, err := issued(o, ca.cert, public, time.Now())
		if ours := err == nil; ours != row.ok || template == nil {
			t.Errorf("-permit %s, %q: %v", row.permit, row.args, err)
			continue
		}
		leaf := parsed(t)(x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key))
		if theirs, text := opensslVerifies(t, ca.cert, leaf); theirs != row.ok {
			t.Errorf("-permit %s, %q: openssl says %s", row.permit, row.args, text)
		}
	}
}

// TestConstraintsOfCommonName: OpenSSL checks no common name without a dot, but a client takes that
// of a server without other names for its DNS name.
func TestConstraintsOfCommonName(t *testing.T) {
	for _, row := range []struct {
		args []string // of -sign
		ok   bool
	}{
		{[]string{"-no-host", "-subj", "/CN=client42", "-usage", "client"}, true},
		{[]string{"-no-host", "-subj", "/CN=client42"}, false},
		{[]string{"-no-host", "-subj", "/CN=localhost", "-usage", "client,server"}, false},
		{[]string{"-no-host", "-subj", "/O=x+CN=localhost/CN=Jean Dupont"}, false},
		{[]string{"-no-host", "-subj", "/2.5.4.3=localhost"}, false},
		{[]string{"-no-host", "-subj", "/CN=*"}, false},
		{[]string{"-no-host", "-subj", "/CN=www.example.org."}, false},
		{[]string{"-no-host", "-subj", "/CN=Jean Dupont"}, true},
		{[]string{"-host", "www.example.org", "-subj", "/CN=localhost"}, true},
	} {
		o := testOptions(t, append([]string{"-sign", "request"}, row.args...)...)
		if _, err := issued(o, newSoftCA(t, "www.example.org").cert, newKey(t).Public(), time.Now()); (err == nil) != row.ok {
			t.Errorf("%q: %v", row.args, err)
		}
	}
}

func opensslVerifies(t *testing.T, ca, leaf *x509.Certificate) (ok bool, text string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, cert *x509.Certificate) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cmd := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", write("ca", ca), write("leaf", leaf))
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}
