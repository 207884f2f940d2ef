package tpmkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// An authority is a certificate, its key and its PEM block.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

// issue makes a certificate, signed by issuer, or by itself if that is nil.
func issue(t testing.TB, name string, issuer *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a := &authority{cert: template, key: key}
	if issuer == nil {
		issuer = a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, &key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// What may stand in a certificate file, and in which order the server sends it.
func TestParseChain(t *testing.T) {
	root := issue(t, "root", nil)
	middle := issue(t, "middle", root)
	other := issue(t, "middle", root) // of the same name
	leaf := issue(t, "leaf", middle)
	stranger := issue(t, "stranger", nil)
	keyFile := string(tpmtest.Fixture(t, "tpm2/pv-p256.pem"))
	utf16 := []byte{0xff, 0xfe}
	for _, c := range []byte(middle.pem + leaf.pem) {
		utf16 = append(utf16, c, 0)
	}
	for name, c := range map[string]struct {
		file string
		want []*authority
	}{
		"alone":                     {leaf.pem, []*authority{leaf}},
		"in order":                  {leaf.pem + middle.pem + root.pem, []*authority{leaf, middle, root}},
		"reversed":                  {root.pem + middle.pem + leaf.pem, []*authority{leaf, middle, root}},
		"mixed":                     {middle.pem + leaf.pem + root.pem, []*authority{leaf, middle, root}},
		"two of one name":           {leaf.pem + other.pem + middle.pem, []*authority{leaf, middle, other}},
		"others at the end":         {stranger.pem + root.pem + leaf.pem, []*authority{leaf, stranger, root}},
		"with the key":              {keyFile + leaf.pem, []*authority{leaf}},
		"with text":                 {"Subject: CN=leaf\n" + leaf.pem, []*authority{leaf}},
		"with a byte order mark":    {"\ufeff" + leaf.pem, []*authority{leaf}},
		"UTF-16":                    {string(utf16), []*authority{leaf, middle}},
		"old name of the block":     {strings.ReplaceAll(leaf.pem, "CERTIFICATE", "X509 CERTIFICATE"), []*authority{leaf}},
		"with headers":              {strings.Replace(leaf.pem, "CERTIFICATE-----\n", "CERTIFICATE-----\nComment: mine\n\n", 1), []*authority{leaf}},
		"DER":                       {string(leaf.cert.Raw), []*authority{leaf}},
		"DER, several, in no order": {string(middle.cert.Raw) + string(leaf.cert.Raw), []*authority{leaf, middle}},
	} {
		chain, first, err := tpmkey.ParseChain([]byte(c.file), &leaf.key.PublicKey)
		want := make([][]byte, len(c.want))
		for i, a := range c.want {
			want[i] = a.cert.Raw
		}
		if err != nil || !slices.EqualFunc(chain, want, bytes.Equal) || !first.Equal(leaf.cert) {
			t.Errorf("%s: error %v, or another chain", name, err)
		}
	}
	_, _, err := tpmkey.ParseChain([]byte(middle.pem+root.pem), &leaf.key.PublicKey)
	tpmtest.WantError(t, err, tpmkey.ErrWrongCertificate, "middle")
}

// What is no certificate is named, and openssl's command that the error names makes one of it.
func TestParseChainRefuses(t *testing.T) {
	root := issue(t, "root", nil)
	leaf := issue(t, "leaf", root)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(command string) {
		t.Helper()
		cmd := exec.Command("openssl", strings.Fields(command)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", command, err, out)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	write("key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	write("chain", root.pem+leaf.pem)
	write("empty", "")
	write("text", "bonjour\n")
	write("cut", leaf.pem[:200])
	write("cut.der", string(leaf.cert.Raw[:200]))
	write("tpm", string(tpmtest.Fixture(t, "tpm12-tutorial/maclef")))
	openssl("crl2pkcs7 -nocrl -certfile chain -out p7.pem")
	openssl("crl2pkcs7 -nocrl -certfile chain -outform DER -out p7.der")
	openssl("pkcs12 -export -in chain -inkey key -passout pass:x -out p12")
	openssl("x509 -in chain -trustout -addtrust serverAuth -out trusted")
	openssl("req -new -key key -subj /CN=x -out csr")
	for _, c := range []struct{ file, want, add string }{
		{"p7.pem", "a PKCS #7 file; take the certificates out with openssl pkcs7 -print_certs -in FILE -out COPY", ""},
		{"p7.der", "a PKCS #7 file; take the certificates out with openssl pkcs7 -inform DER -print_certs -in FILE -out COPY", ""},
		{"p12", "a PKCS #12 file; take the certificates out with openssl pkcs12 -nokeys -in FILE -out COPY", " -passin pass:x"},
		{"trusted", "a certificate in a form of its own (TRUSTED CERTIFICATE); convert it with openssl x509 -in FILE -out COPY", ""},
		{"csr", "a certificate request, not a certificate", ""},
		{"key", "a private key (PKCS #8, EC), not a certificate", ""},
		{"tpm", "a key file of a TPM, without a certificate", ""},
		{"cut", "a damaged or truncated certificate; get a good copy of the file", ""},
		{"cut.der", "a damaged or truncated certificate; get a good copy of the file", ""},
		{"empty", "an empty file, not a certificate", ""},
		{"text", "no certificate (PEM or DER) in it", ""},
	} {
		data, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = tpmkey.ParseChain(data, &leaf.key.PublicKey); err == nil || err.Error() != c.want {
			t.Errorf("%s: error %v, want %q", c.file, err, c.want)
			continue
		}
		_, command, ok := strings.Cut(c.want, "openssl ")
		if !ok {
			continue
		}
		openssl(strings.NewReplacer("FILE", c.file, "COPY", "copy").Replace(command) + c.add)
		if data, err = os.ReadFile(filepath.Join(dir, "copy")); err != nil {
			t.Fatal(err)
		}
		public := &leaf.key.PublicKey
		if c.file == "trusted" { // openssl x509 takes the first certificate only
			public = &root.key.PublicKey
		}
		if _, _, err := tpmkey.ParseChain(data, public); err != nil {
			t.Errorf("%s: converted: %v", c.file, err)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	root := issue(f, "root", nil)
	leaf := issue(f, "leaf", root)
	f.Add([]byte(root.pem + leaf.pem))
	f.Add(slices.Concat(root.cert.Raw, leaf.cert.Raw))
	f.Add([]byte("-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, first, err := tpmkey.ParseChain(data, &leaf.key.PublicKey)
		if err == nil && (len(chain) == 0 || !leaf.key.PublicKey.Equal(first.PublicKey) || !bytes.Equal(chain[0], first.Raw)) {
			t.Errorf("%d certificates, first %v", len(chain), first)
		}
	})
}
