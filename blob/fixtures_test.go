package blob

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

const (
	tutorial   = "../internal/tpmtest/testdata/tpm12-tutorial"
	wellknown  = "../internal/tpmtest/testdata/tpm12-wellknown"
	tpm20Files = "../internal/tpmtest/testdata/tpm2"
)

// fixtures are the key files of other programs, as they were made.
var fixtures = []struct {
	path      string
	container Container
	usage     KeyUsage
	flags     KeyFlags
	auth      AuthDataUsage
	enc       EncScheme
	sig       SigScheme
	bits      int
	crt       string // a certificate with the same public key, if there is one
}{
	{tutorial + "/maclef", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "maclef.crt"},
	{tutorial + "/maclef.raw", Raw, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "maclef.crt"},
	{tutorial + "/maclef.tssblob.der", TssBlob, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "maclef.crt"},
	{tutorial + "/oaep", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15DER, 2048, "oaep.crt"},
	{tutorial + "/oaep.raw", Raw, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15DER, 2048, "oaep.crt"},
	{tutorial + "/oaep.tssblob.der", TssBlob, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15DER, 2048, "oaep.crt"},
	{tutorial + "/sha1", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15SHA1, 2048, ""},
	{tutorial + "/oaep-sha1", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15SHA1, 2048, ""},
	{tutorial + "/oaep-sha1.raw", Raw, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15SHA1, 2048, ""},
	{tutorial + "/oaep-sha1.tssblob.der", TssBlob, KeyLegacy, IsVolatile, AuthNever, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15SHA1, 2048, ""},
	{tutorial + "/rsa1024", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 1024, "rsa1024.crt"},
	{tutorial + "/rsa1024.raw", Raw, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 1024, "rsa1024.crt"},
	{tutorial + "/rsa1024.tssblob.der", TssBlob, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 1024, "rsa1024.crt"},
	{tutorial + "/rsa512", PEM, KeyLegacy, IsVolatile, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 512, "rsa512.crt"},
	{tutorial + "/auth", PEM, KeyLegacy, IsVolatile, AuthAlways, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "auth.crt"},
	{tutorial + "/wrapped", PEM, KeyLegacy, IsVolatile | Migratable, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "wrapped.crt"},
	{tutorial + "/wrapped-auth", PEM, KeyLegacy, IsVolatile | Migratable, AuthAlways, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 2048, "wrapped-auth.crt"},
	{tutorial + "/wrapped1024", PEM, KeyLegacy, IsVolatile | Migratable, AuthNever, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, 1024, "wrapped1024.crt"},
	{wellknown + "/stpm.key", SimpleTPMPK11, KeySigning, IsVolatile, AuthNever, ESNone, SSRSASSAPKCS1v15DER, 2048, ""},
	{wellknown + "/stpm-pin.key", SimpleTPMPK11, KeySigning, IsVolatile, AuthAlways, ESNone, SSRSASSAPKCS1v15DER, 2048, ""},
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// parseAs reads a key of one generation.
func parseAs[K Key](data []byte) (K, error) {
	k, err := Parse(data)
	of, _ := k.(K)
	return of, err
}

func mustParse(t testing.TB, path string) *TPMKey {
	t.Helper()
	k, err := parseAs[*TPMKey](readFile(t, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return k
}

func mustTSS2(t testing.TB, name string) *TSS2 {
	t.Helper()
	k, err := parseAs[*TSS2](readFile(t, tpm20Files+"/"+name+".pem"))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return k
}

// certificateKey returns the RSA public key of a PEM certificate.
func certificateKey(t *testing.T, path string) *rsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode(readFile(t, path))
	crt, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return crt.PublicKey.(*rsa.PublicKey)
}

func TestFixtures(t *testing.T) {
	for _, f := range fixtures {
		t.Run(filepath.Base(f.path), func(t *testing.T) {
			data := readFile(t, f.path)
			k, err := parseAs[*TPMKey](data)
			if err != nil {
				t.Fatal(err)
			}
			if k.Container() != f.container || k.Key12 || k.Usage != f.usage || k.Flags != f.flags || k.AuthDataUsage != f.auth ||
				k.EncScheme != f.enc || k.SigScheme != f.sig || int(k.KeyLength) != f.bits || len(k.Exponent) != 0 || len(k.EncData) != 256 {
				t.Errorf("got %v %v %v %v %v %v, %d bits, exponent of %d bytes, encData of %d bytes",
					k.Container(), k.Usage, k.Flags, k.AuthDataUsage, k.EncScheme, k.SigScheme, k.KeyLength, len(k.Exponent), len(k.EncData))
			}
			if k.NeedsSecret() != (f.auth != AuthNever) || k.Migratable() != (f.flags&Migratable != 0) ||
				!k.CanSign() || k.CanDecrypt() != (f.enc != ESNone) {
				t.Errorf("NeedsSecret %v, Migratable %v, CanSign %v, CanDecrypt %v", k.NeedsSecret(), k.Migratable(), k.CanSign(), k.CanDecrypt())
			}
			if pcrs, err := k.PCRs(); len(pcrs) != 0 || err != nil {
				t.Errorf("PCRs %v, %v", pcrs, err)
			}
			pub := k.PublicKey().(*rsa.PublicKey)
			if pub.E != 65537 || pub.N.BitLen() != f.bits {
				t.Errorf("public key: e %d, %d bits", pub.E, pub.N.BitLen())
			}
			if f.crt != "" && !pub.Equal(certificateKey(t, filepath.Join(tutorial, f.crt))) {
				t.Error("public key differs from the certificate's")
			}
			if got, err := k.Marshal(k.Container()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("written back differently (error %v):\n%q\n%q", err, got, data)
			}
		})
	}
}

// TestConvert checks that the fixtures that hold the same key become each other.
func TestConvert(t *testing.T) {
	for _, name := range []string{"maclef", "oaep", "oaep-sha1", "rsa1024"} {
		path := filepath.Join(tutorial, name)
		files := map[Container][]byte{
			PEM:     readFile(t, path),
			Raw:     readFile(t, path+".raw"),
			TssBlob: readFile(t, path+".tssblob.der"),
		}
		block, _ := pem.Decode(files[PEM])
		files[OctetString] = block.Bytes
		for from, data := range files {
			k, err := parseAs[*TPMKey](data)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, from, err)
			}
			if k.Container() != from {
				t.Errorf("%s: container %v, want %v", name, k.Container(), from)
			}
			for to, want := range files {
				if got, err := k.Marshal(to); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v to %v: error %v, or other bytes", name, from, to, err)
				}
			}
		}
	}
}

func TestNoFixtureForgotten(t *testing.T) {
	known := map[string]bool{}
	for _, f := range fixtures {
		known[filepath.Clean(f.path)] = true
	}
	for _, f := range sealedFixtures {
		known[filepath.Clean(f.path)] = true
	}
	for _, dir := range []string{tutorial, wellknown} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			path := filepath.Join(dir, f.Name())
			k, err := Parse(readFile(t, path))
			if known[path] != (err == nil) {
				t.Errorf("%s: key %+v, error %v", path, k != nil, err)
			}
		}
	}
}
