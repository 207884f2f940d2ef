package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	"maclef/blob"
)

// kind is one of the kinds of keys that keygen makes.
type kind struct {
	name       string
	flags      []string
	wrap       crypto.PrivateKey // the key, where it was made outside the TPM
	hash       crypto.Hash
	secret     bool
	persistent bool // its parent
}

func kinds(t *testing.T) []kind {
	wrapRSA, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	wrapEC, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []kind{
		{name: "rsa2048", hash: crypto.SHA256},
		{name: "p256", flags: []string{"-type", "p256"}, hash: crypto.SHA256},
		{name: "p384", flags: []string{"-type", "p384"}, hash: crypto.SHA384},
		{name: "p521", flags: []string{"-type", "p521"}, hash: crypto.SHA512},
		{name: "rsa2048-secret", hash: crypto.SHA256, secret: true},
		{name: "p256-secret", flags: []string{"-type", "p256"}, hash: crypto.SHA256, secret: true},
		{name: "rsa2048-persistent", hash: crypto.SHA256, persistent: true},
		{name: "p256-secret-persistent", flags: []string{"-type", "p256"}, hash: crypto.SHA256, secret: true, persistent: true},
		{name: "rsa3072-wrapped", wrap: wrapRSA, hash: crypto.SHA384},
		{name: "p384-wrapped-secret", wrap: wrapEC, hash: crypto.SHA384, secret: true},
	}
}

// make has keygen make a key of this kind, and returns it and its file.
func (k *kind) make(t *testing.T, c *chip) (blob.Key, string) {
	t.Helper()
	flags := k.flags
	if k.secret {
		flags = append(flags, "-key-pass", "pass:"+secret)
	}
	if k.persistent {
		flags = append(flags, "-parent", srk)
	}
	if k.wrap != nil {
		der, err := x509.MarshalPKCS8PrivateKey(k.wrap)
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-w", c.write(t, "software.der", der))
	}
	c.run(t, "keygen", append(flags, k.name)...)
	key, err := blob.Parse(c.read(t, k.name))
	if err != nil {
		t.Fatal(err)
	}
	return key, c.file(k.name)
}
