package main

import (
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestSAN(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"DNS:a.example,IP:192.0.2.1,email:a@b.example,URI:https://c.example/x?y=z", "a.example,192.0.2.1,a@b.example,https://c.example/x?y=z"},
		{"dns:a.example, Email:a@b.example,email:a@b.example", "a.example,a@b.example"},
		{"URI:urn:uuid:1,URI:urn:uuid:1,URI:https://[2001:db8::1]:8443/", "urn:uuid:1,https://[2001:db8::1]:8443/"},
		{"email:prenom.nom+x@b.example", "prenom.nom+x@b.example"},
	} {
		h := defaultHosts()
		if err := (sanFlag{h}).Set(row.text); err != nil || h.String() != row.want {
			t.Errorf("%s: %s, %v", row.text, h, err)
		}
	}
	for _, row := range []struct{ text, want string }{
		{"", "none of DNS"}, {"www.example.org", "none of DNS"}, {"RID:1.2.3", "none of DNS"}, {"critical,DNS:a", "none of DNS"},
		{"DNS:", "an empty name"}, {"DNS:192.0.2.1", "write IP:192.0.2.1"}, {"DNS:a b", "' '"}, {"IP:a.example", "neither an IPv4"},
		{"IP:fe80::1%eth0", "has no zone"}, {"email:moi", "NAME@DOMAIN"}, {"email:copy", "NAME@DOMAIN"}, {"email:@a", "NAME@DOMAIN"}, {"email:a@", "no domain"},
		{"email:a b@c.example", "NAME@DOMAIN"}, {"email:a@b@c.example", "no domain"}, {"email:a@*.example.org", "no domain"},
		{"email:\"a\"@b.example", "NAME@DOMAIN"}, {"URI:", "begins with its scheme"}, {"URI:/a", "begins with its scheme"}, {"URI:https:", "begins with its scheme"},
		{"URI:https://a b/", "invalid character"}, {"URI:https://-a/", "begins or ends with -"}, {"URI:urn:\x01", "control character"},
	} {
		if err := (sanFlag{defaultHosts()}).Set(row.text); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, want %s", row.text, err, row.want)
		}
	}
}

// FuzzSAN: Go makes a certificate with what is accepted, and reads the same names in it.
func FuzzSAN(f *testing.F) {
	for _, seed := range []string{"DNS:a,IP:::1,email:a@b,URI:urn:x", "URI:https://a:1/%2C", "email:a.b@c.d", "URI:a://b@c/d#e"} {
		f.Add(seed)
	}
	key := newKey(f)
	f.Fuzz(func(t *testing.T, text string) {
		h := &altNames{}
		if (sanFlag{h}).Set(text) != nil {
			return
		}
		o := testOptions(t, "-usage", "client", "-subj", "/CN=x")
		o.names = h
		template, err := o.template(key.Public(), time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		cert := parsed(t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
		n := len(cert.DNSNames) + len(cert.IPAddresses) + len(cert.EmailAddresses) + len(cert.URIs)
		if n != len(h.order) {
			t.Errorf("%q: %d names of %d", text, n, len(h.order))
		}
	})
}
