package main

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestCheckAuthority(t *testing.T) {
	now := time.Now()
	good := x509.Certificate{
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{1}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	for _, row := range []struct {
		name   string
		usage  x509.KeyUsage
		change func(*x509.Certificate)
		want   string // "" if it may sign
	}{
		{"good", x509.KeyUsageCertSign, func(*x509.Certificate) {}, ""},
		{"no key usage", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.KeyUsage = 0 }, ""},
		{"no key usage, for a CRL", x509.KeyUsageCRLSign, func(c *x509.Certificate) { c.KeyUsage = 0 }, "key usage CRL Sign"},
		{"only for CRLs", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, "key usage Certificate Sign"},
		{"version 1", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "no CA certificate"},
		{"a server's", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.IsCA = false }, "no CA certificate"},
		{"no identifier", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.SubjectKeyId = nil }, "no subject key identifier"},
		{"ended", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.NotAfter = now }, "has ended on"},
		{"not yet", x509.KeyUsageCertSign, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, "is the clock right?"},
	} {
		ca := good
		row.change(&ca)
		if err := checkAuthority(&ca, row.usage, now); row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// TestEnd: a certificate begins and ends within its CA's time.
func TestEnd(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	ca := newSoftCA(t, "www.example.org").cert
	ca.NotBefore, ca.NotAfter = now.Add(-time.Minute), now.Add(49*time.Hour)
	for _, row := range []struct {
		days string
		end  time.Time // zero if it is refused
	}{
		{"1", ca.NotBefore.Add(24 * time.Hour)}, {"2", ca.NotBefore.Add(48 * time.Hour)}, {"3", time.Time{}}, {"", ca.NotAfter},
	} {
		args := []string{"-sign", "request", "-no-host", "-subj", "/CN=x", "-usage", "client"}
		if row.days != "" {
			args = append(args, "-days", row.days)
		}
		template, err := issued(testOptions(t, args...), ca, newKey(t).Public(), now)
		switch {
		case row.end.IsZero() && err == nil:
			t.Errorf("-days %s: accepted", row.days)
		case !row.end.IsZero() && (err != nil || !template.NotBefore.Equal(ca.NotBefore) || !template.NotAfter.Equal(row.end)):
			t.Errorf("-days %s: %v to %v, %v", row.days, template.NotBefore, template.NotAfter, err)
		}
	}
}
