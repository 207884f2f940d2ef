package certfile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

func newCertificate(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func utf16(text string) string {
	return "\xff\xfe" + strings.Join(strings.Split(text, ""), "\x00") + "\x00"
}

// TestParse: what it refuses is also in tpmkey's TestParseChainRefuses, with openssl's files.
func TestParse(t *testing.T) {
	_, der := newCertificate(t)
	cert := block("CERTIFICATE", der)
	for name, c := range map[string]struct {
		file string
		n    int    // certificates
		want string // error
	}{
		"PEM":               {cert, 1, ""},
		"DER":               {string(der), 1, ""},
		"two in DER":        {string(der) + string(der), 2, ""},
		"old name":          {block("X509 CERTIFICATE", der), 1, ""},
		"UTF-16":            {utf16(cert + cert), 2, ""},
		"with other blocks": {block("PRIVATE KEY", []byte("x")) + "text\n" + cert + block("TSS2 PRIVATE KEY", nil), 1, ""},
		"a bad one":         {cert + block("CERTIFICATE", der[:99]), 0, "malformed certificate"},
		"an empty one":      {block("CERTIFICATE", nil), 0, "certificate"},
		"DER and more":      {string(der) + "x", 0, "certificate"},
		"nothing":           {"", 0, "an empty file"},
		"CMS":               {block("CMS", der), 0, "openssl pkcs7 -print_certs"},
		"a key of a TPM":    {block("TSS2 PRIVATE KEY", nil), 0, "a key file of a TPM"},
	} {
		certs, err := Parse([]byte(c.file))
		if len(certs) != c.n || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d certificates, %v", name, len(certs), err)
		}
	}
}

func TestBlocks(t *testing.T) {
	file := []byte(block("A", []byte("1")) + block("B", []byte("2")) + block("C", []byte("3")))
	for _, text := range [][]byte{file, []byte(utf16(string(file)))} {
		before := bytes.Clone(text)
		blocks, other := Blocks(text, "A", "C")
		if len(blocks) != 2 || string(blocks[0])+string(blocks[1]) != "13" || other != "B" || !bytes.Equal(text, before) {
			t.Errorf("%q, %q", blocks, other)
		}
	}
}

func TestSameKey(t *testing.T) {
	one, _ := newCertificate(t)
	two, _ := newCertificate(t)
	if !SameKey(one.Public(), one.Public()) || SameKey(one.Public(), two.Public()) || SameKey(nil, one.Public()) || SameKey(one.Public(), nil) {
		t.Error("keys are compared wrongly")
	}
}
