package pemkey_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"testing"

	"maclef/internal/chip"
	"maclef/internal/pemkey"
	"maclef/internal/tpmtest"
)

// must returns v of a call that does not fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// utf16Of returns an ASCII text as Windows PowerShell writes it.
func utf16Of(text []byte) []byte {
	b := []byte{0xff, 0xfe}
	for _, c := range text {
		b = append(b, c, 0)
	}
	return b
}

func TestParseECPrivateKey(t *testing.T) {
	want := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	sec1, pkcs8 := must(x509.MarshalECPrivateKey(want)), must(x509.MarshalPKCS8PrivateKey(want))
	parameters := pemOf("EC PARAMETERS", []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22})
	//lint:ignore SA1019 the old encryption is what is tested
	old := pem.EncodeToMemory(must(x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", sec1, []byte("mot"), x509.PEMCipherAES128)))
	for name, data := range map[string][]byte{
		"SEC 1": pemOf("EC PRIVATE KEY", sec1), "SEC 1, DER": sec1, "PKCS #8": pemOf("PRIVATE KEY", pkcs8), "PKCS #8, DER": pkcs8,
		"as openssl ecparam": append(parameters, pemOf("EC PRIVATE KEY", sec1)...), "encrypted in the old way": old,
		"with a byte order mark": append([]byte("\ufeff"), pemOf("EC PRIVATE KEY", sec1)...), "UTF-16": utf16Of(pemOf("PRIVATE KEY", pkcs8)),
	} {
		key, err := pemkey.Parse(data, func() ([]byte, error) { return []byte("mot"), nil })
		if err != nil || !want.Equal(key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pemkey.Parse(old, func() ([]byte, error) { return []byte("x"), nil }); !errors.Is(err, pemkey.ErrWrongPassword) {
		t.Errorf("with a wrong password: %v", err)
	}
	if _, err := pemkey.Parse(sec1[:len(sec1)-2], nil); err == nil || errors.Is(err, chip.ErrNotSupported) {
		t.Errorf("cut off: %v", err)
	}
}

// A key of a curve that Go does not have: SEC 1, and PKCS #8.
var (
	secp256k1      = must(hex.DecodeString("302e0201010420" + scalar + "a00706052b8104000a"))
	secp256k1PKCS8 = must(hex.DecodeString("303e020100301006072a8648ce3d020106052b8104000a04273025020101" + "0420" + scalar))
)

const scalar = "1111111111111111111111111111111111111111111111111111111111111111"

func TestParseOtherPrivateKeys(t *testing.T) {
	pkcs8 := func(key crypto.PrivateKey) []byte { return must(x509.MarshalPKCS8PrivateKey(key)) }
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for name, data := range map[string][]byte{
		"Ed25519": pkcs8(ed), "X25519": pkcs8(must(ecdh.X25519().GenerateKey(rand.Reader))),
		"P-224": pkcs8(must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))), "secp256k1": secp256k1, "secp256k1, PKCS #8": secp256k1PKCS8,
		"DSA": pemOf("DSA PRIVATE KEY", nil),
	} {
		if _, err := pemkey.Parse(data, nil); !errors.Is(err, chip.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pemkey.Parse(tpmtest.Fixture(t, "tpm2/e2-p256.pem"), nil); err == nil {
		t.Error("a key of a TPM was parsed")
	}
}
