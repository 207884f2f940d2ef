package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"maclef/internal/cli"
)

// testOptions parses a command line.
func testOptions(t testing.TB, args ...string) *options {
	t.Helper()
	o, err := parseArgs(args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return o
}

func parseArgs(args ...string) (*options, error) {
	return parse(cli.NewEnv("certgen", strings.NewReader(""), io.Discard, io.Discard), args)
}

// newRequest makes a request, with SHA-256.
func newRequest(t *testing.T, template *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestChangedRequest has requests that openssl does not make.
func TestChangedRequest(t *testing.T) {
	good := newRequest(t, &x509.CertificateRequest{})
	exponent := []byte{2, 3, 1, 0, 1} // INTEGER 65537
	for _, row := range []struct {
		name      string
		old, with []byte
		want      string
	}{
		{"unchanged", exponent, exponent, ""},
		{"even exponent", exponent, []byte{2, 3, 1, 0, 0}, "no RSA key has the exponent 65536"},
		{"exponent 1", exponent, []byte{2, 3, 0, 0, 1}, "invalid RSA public exponent"}, // not minimal DER
		{"signature", good[len(good)-1:], []byte{good[len(good)-1] ^ 1}, "the signature of the request is wrong"},
	} {
		t.Run(row.name, func(t *testing.T) {
			at := bytes.LastIndex(good, row.old)
			der := slices.Concat(good[:at], row.with, good[at+len(row.old):])
			req, err := parseRequest(der)
			if err == nil {
				err = checkPublicKey(req.PublicKey)
			}
			if err == nil {
				err = checkRequest(req, true)
			}
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestLongKey(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 100000)
	if err := checkPublicKey(&rsa.PublicKey{N: n, E: 3}); err == nil || !strings.Contains(err.Error(), "100001 bits is too long") {
		t.Error(err)
	}
}

func TestCopyNames(t *testing.T) {
	mail := &url.URL{Scheme: "https", Host: "example.org"}
	req, err := parseRequest(newRequest(t, &x509.CertificateRequest{
		DNSNames: []string{"a.example", "A.example", "*.b.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.IPv6loopback},
		EmailAddresses: []string{"moi@example.org"}, URIs: []*url.URL{mail},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var names altNames
	copied, left, err := names.copyNames(req)
	const want = "a.example,*.b.example,192.0.2.1,::1"
	if err != nil || names.String() != want || copied.String() != want || strings.Join(left, ",") != "moi@example.org,https://example.org" {
		t.Errorf("copied %s, left %q, %v", &names, left, err)
	}
	for _, bad := range []string{"192.0.2.1", "a b", "a.example\x1b[2J", "*", "é.example"} {
		var names altNames
		if _, _, err := names.copyNames(&x509.CertificateRequest{DNSNames: []string{"a.example", bad}}); err == nil || len(names.order) > 0 {
			t.Errorf("%q: copied %s", bad, &names)
		}
	}
}

// TestBadNames: a request with a bad name is no usage error.
func TestBadNames(t *testing.T) {
	for _, bad := range []string{"", "a b"} {
		env := cli.NewEnv("certgen", strings.NewReader(""), io.Discard, io.Discard)
		err := takeNames(env, testOptions(t, "-sign", "request", "-copy-names"), &x509.CertificateRequest{DNSNames: []string{bad}})
		var usage *cli.UsageError
		if err == nil || errors.As(err, &usage) || !strings.Contains(cli.Hint(err, nil), "name them with -host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSerials: they have 128 random bits.
func TestSerials(t *testing.T) {
	seen := map[string]bool{}
	longest := 0
	for range 64 {
		n, err := newSerial()
		if err != nil || n.Sign() <= 0 || n.BitLen() > 128 || seen[n.String()] {
			t.Fatalf("%v, %v", n, err)
		}
		seen[n.String()] = true
		longest = max(longest, n.BitLen())
	}
	if longest != 128 {
		t.Errorf("the longest of 64 numbers has %d bits", longest)
	}
}

// FuzzRequest: no request makes certgen panic, and what it accepts has a key that it knows.
func FuzzRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := parseRequest(data)
		if err != nil || checkPublicKey(req.PublicKey) != nil {
			return
		}
		checkRequest(req, true)
		var names altNames
		names.copyNames(req)
		if _, err := keyID(req.PublicKey); err != nil {
			t.Error(err)
		}
	})
}
