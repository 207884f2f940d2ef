package blob

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

func pemOf(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// must is for the standard library's encoders, which cannot fail here.
func must(der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return der
}

func der(v any) []byte { return must(asn1.Marshal(v)) }

// algorithm is an AlgorithmIdentifier without parameters.
type algorithm struct{ OID asn1.ObjectIdentifier }

var pbes2 = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}}

func TestNotKey(t *testing.T) {
	block, _ := pem.Decode(readFile(t, tutorial+"/wrapped.pem"))
	priv, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	pkcs1 := x509.MarshalPKCS1PrivateKey(priv)
	pkcs8 := must(x509.MarshalPKCS8PrivateKey(priv))
	encrypted := der(struct {
		A algorithm
		B []byte
	}{pbes2, make([]byte, 80)})
	pss := bytes.Replace(pkcs8, oidRSA, oidPSS, 1)
	sec1 := must(x509.MarshalECPrivateKey(ec))
	spki := must(x509.MarshalPKIXPublicKey(&priv.PublicKey))
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, priv))
	crtPEM := readFile(t, tutorial+"/maclef.crt")
	crt, _ := pem.Decode(crtPEM)
	v1 := der(struct {
		TBS struct {
			Serial int
			Alg    algorithm
			Issuer []algorithm
		}
		Alg algorithm
		Sig asn1.BitString
	}{Alg: pbes2, TBS: struct {
		Serial int
		Alg    algorithm
		Issuer []algorithm
	}{4711, pbes2, nil}})
	tss2, _ := pem.Decode(readFile(t, tpm20Files+"/pv-rsa.pem"))

	for _, c := range []struct {
		name string
		data []byte
		what string
		priv bool
	}{
		{"empty", nil, "an empty file", false},
		{"white space", []byte(" \r\n\n"), "an empty file", false},
		{"PKCS #1", readFile(t, tutorial+"/wrapped.pem"), "a private key (PKCS #1)", true},
		{"PKCS #1, 1024 bits", readFile(t, tutorial+"/wrapped1024.pem"), "a private key (PKCS #1)", true},
		{"PKCS #1 encrypted", bytes.Replace(readFile(t, tutorial+"/wrapped.pem"), []byte("KEY-----\n"), []byte("KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"), 1), "a private key (PKCS #1, encrypted)", true},
		{"PKCS #1 without END", bytes.Split(readFile(t, tutorial+"/wrapped.pem"), []byte("-----END"))[0], "a private key (PKCS #1)", true},
		{"PKCS #1 DER", pkcs1, "a private key (PKCS #1, DER)", true},
		{"PKCS #8", pemOf("PRIVATE KEY", pkcs8), "a private key (PKCS #8)", true},
		{"PKCS #8 with headers", bytes.Replace(pemOf("PRIVATE KEY", pss), []byte("KEY-----\n"), []byte("KEY-----\nComment: mine\n\n"), 1), "a private key (PKCS #8, RSA for PSS only)", false},
		{"PKCS #8 in UTF-16", []byte(utf16Of(string(pemOf("PRIVATE KEY", pkcs8)), binary.LittleEndian)), "a private key (PKCS #8)", true},
		{"PKCS #8 DER", pkcs8, "a private key (PKCS #8)", true},
		{"PKCS #8 DER cut", pkcs8[:200], "a private key (PKCS #8)", true},
		{"PKCS #8 bad base64", []byte("-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----\n"), "a private key (PKCS #8)", true},
		{"PKCS #8 after a certificate", append(bytes.Clone(crtPEM), pemOf("PRIVATE KEY", pkcs8)...), "a private key (PKCS #8)", true},
		{"PKCS #8 encrypted", pemOf("ENCRYPTED PRIVATE KEY", encrypted), "a private key (PKCS #8, encrypted)", true},
		{"PKCS #8 encrypted DER", encrypted, "a private key (PKCS #8, encrypted)", true},
		{"PKCS #8 PSS", pemOf("PRIVATE KEY", pss), "a private key (PKCS #8, RSA for PSS only)", false},
		{"PKCS #8 EC", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ec))), "a private key (PKCS #8, EC)", true},
		{"PKCS #8 Ed25519", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))), "a private key (PKCS #8, neither RSA nor EC)", false},
		{"EC", pemOf("EC PRIVATE KEY", sec1), "a private key (EC)", true},
		{"EC with parameters", append(pemOf("EC PARAMETERS", []byte{5, 0}), pemOf("EC PRIVATE KEY", sec1)...), "a private key (EC)", true},
		{"EC DER", sec1, "a private key (EC, DER)", true},
		{"DSA", pemOf("DSA PRIVATE KEY", []byte{5, 0}), "a private key (DSA)", false},
		{"OpenSSH", pemOf("OPENSSH PRIVATE KEY", []byte("openssh-key-v1\x00")), "a private key (OpenSSH)", false},
		{"another private key", pemOf("MY PRIVATE KEY", []byte{5, 0}), `a private key ("MY PRIVATE KEY")`, false},
		{"PKCS #12", der(struct {
			V int
			S []algorithm
		}{3, []algorithm{pbes2}}), "a PKCS #12 file", false},
		{"certificate", crtPEM, "a certificate", false},
		{"certificate DER", crt.Bytes, "a certificate", false},
		{"certificate DER cut", crt.Bytes[:100], "a certificate", false},
		{"certificate v1 DER", v1, "a certificate", false},
		{"request", pemOf("CERTIFICATE REQUEST", csr), "a certificate request", false},
		{"request DER", csr, "a certificate request", false},
		{"public key", pemOf("PUBLIC KEY", spki), "a public key", false},
		{"public key DER", spki, "a public key", false},
		{"PKCS #1 public key", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&priv.PublicKey)), "a public key", false},
		{"PKCS #1 public key DER", x509.MarshalPKCS1PublicKey(&priv.PublicKey), "a public key", false},
		{"TSS2 of an unknown type", bytes.Replace(tss2.Bytes, []byte("\x67\x81\x05\x0a\x01\x03"), []byte("\x67\x81\x05\x0a\x01\x09"), 1), "a TPM 2.0 file of an unknown type", false},
		{"public half", readFile(t, tpm20Files+"/tools-rsa.pub"), "the public half of a tpm2-tools key (.pub)", false},
		{"private half", readFile(t, tpm20Files+"/tools-rsa.priv"), "the private half of a tpm2-tools key (.priv)", false},
		{"saved context", []byte("\xba\xdc\xc0\xde\x00\x00\x00\x01"), "a saved context of tpm2-tools (.ctx), which lasts until the TPM restarts", false},
		{"another PEM", pemOf("X509 CRL", []byte{5, 0}), `a PEM file of type "X509 CRL"`, false},
		{"PEM with a long type", pemOf(strings.Repeat("A", 99), nil), `a PEM file of type "` + strings.Repeat("A", 40) + `"`, false},
		{"trousers' store", readFile(t, tutorial+"/system.data"), "a key store of trousers (system.data)", false},
		{"swtpm state", readFile(t, tutorial+"/tpm-00.permall"), "", false},
		{"ECDSA signature", must(ecdsa.SignASN1(rand.Reader, ec, make([]byte, 32))), "", false},
		{"text", []byte("hello\n"), "", false},
		{"text with words of simple-tpm-pk11", []byte("hello\nexp 7\nmod ulo\nblob\n"), "", false},
		{"UTF-16 text", []byte(utf16Of("hello\n", binary.LittleEndian)), "", false},
		{"UTF-16 without text", []byte("\xff\xfe"), "an empty file", false},
		{"text with 0", []byte("00 hello\n"), "", false},
		{"comment", []byte("# Some sort of key.\n"), "", false},
		{"ciphertext", readFile(t, tutorial+"/maclef.bound"), "", false},
		{"empty SEQUENCE", []byte{0x30, 0}, "", false},
		{"zeros", make([]byte, 600), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.data)
			var e *NotKeyError
			if !errors.As(err, &e) || e.What != c.what || e.PrivateKey != c.priv || e.Do == "" {
				t.Fatalf("error %v, want %q, private %v", err, c.what, c.priv)
			}
			if c.priv && !strings.HasSuffix(err.Error(), ", not a TPM key: it must be wrapped for a TPM") && !strings.Contains(err.Error(), "it must be wrapped for a TPM 2.0") {
				t.Errorf("error %v", err)
			}
			if c.what == "" && !strings.HasPrefix(err.Error(), "not a TPM key file: expected ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestErrorsKeepSecrets checks that no error repeats a file's contents.
func TestErrorsKeepSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, text := range []string{
		secret,
		"exp " + secret,
		"exp 03\n" + secret,
		"exp 03\n" + secret + " 00",
		"-----BEGIN TSS KEY BLOB-----\n" + secret + ": " + secret + "\n-----END TSS KEY BLOB-----\n",
		"-----BEGIN TSS KEY BLOB-----\n" + secret + "\n-----END TSS KEY BLOB-----\n",
		"-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n",
		"\x30\x10" + secret + "xx",
		"\x04\x12\x01\x01\x00\x00" + secret,
		"\x01\x01\x00\x00" + secret,
	} {
		if _, err := Parse([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
