package tpmkey_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// selfSigned makes a certificate for localhost with the key, PEM.
func selfSigned(t *testing.T, k *tpmkey.Key) []byte {
	t.Helper()
	return certify(t, k, k, 0)
}

// certify makes a certificate of subject's key, signed by issuer's with an algorithm, 0 for
// the usual one.
func certify(t *testing.T, subject, issuer *tpmkey.Key, algorithm x509.SignatureAlgorithm) []byte {
	t.Helper()
	template := localhost()
	template.SignatureAlgorithm = algorithm
	der, err := x509.CreateCertificate(rand.Reader, template, template, subject.Public(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func localhost() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A Go client offers TLS 1.3 and, in 1.2, RSA-PSS before PKCS#1 v1.5.
func TestTLS(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	for _, name := range []string{"maclef", "auth", "rsa1024", "oaep"} {
		t.Run(name, func(t *testing.T) {
			k := loadFixture(t, tpm, name)
			cert := selfSigned(t, k)
			config, err := k.TLSConfig(writeFile(t, cert))
			if err != nil {
				t.Fatal(err)
			}
			if state := handshake(t, config, trusting(cert)); state.Version != tls.VersionTLS12 {
				t.Errorf("version %#x", state.Version)
			}
		})
	}
}

// trusting configures a client that trusts a certificate for localhost.
func trusting(cert []byte) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// handshake connects a client and a server, passes a word, and returns what the
// client saw.
func handshake(t *testing.T, server, client *tls.Config) tls.ConnectionState {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go greet(c)
		}
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "bonjour" {
		t.Errorf("read %q, %v", b, err)
	}
	return c.ConnectionState()
}

func greet(c net.Conn) {
	io.WriteString(c, "bonjour")
	c.Close()
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	maclef, small, sha1 := loadFixture(t, tpm, "maclef"), loadFixture(t, tpm, "rsa512"), loadFixture(t, tpm, "sha1")
	cert := selfSigned(t, maclef)
	_, err := loadFixture(t, tpm, "auth").TLSConfig(writeFile(t, cert))
	tpmtest.WantError(t, err, tpmkey.ErrWrongCertificate, "localhost")
	_, err = small.TLSConfig(writeFile(t, tpmtest.Fixture(t, "tpm12-tutorial/"+"rsa512.crt")))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "1024")
	_, err = sha1.TLSConfig(writeFile(t, cert)) // the key is what is wrong first
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "SHA-1")
	_, err = sha1.TLSConfig(writeFile(t, certify(t, sha1, maclef, 0)))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "SHA-1")
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("bonjour"), "key": tpmtest.Fixture(t, "tpm12-tutorial/"+"maclef"), "cut": cert[:100],
		"damaged": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2}}),
	} {
		if _, err := maclef.TLSCertificate(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err = maclef.TLSConfig("no/such/file")
	tpmtest.WantError(t, err, fs.ErrNotExist)
}
