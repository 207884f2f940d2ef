package interop

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	keyfile "github.com/foxboron/go-tpm-keyfiles"

	"maclef/blob"
	"maclef/tpmkey"
)

// ourKey is a key that this project made, for another program to use.
type ourKey struct {
	*chip
	kind kind
	key  blob.Key
	file string
	pub  string // the file of what tpmctl pub says of it
}

// Keys that this project makes are keys for the others.
func TestOurKeys(t *testing.T) {
	c := newChip(t).withSRK(t)
	c.write(t, messageFile, message)
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			key, file := k.make(t, c)
			pub := c.write(t, k.name+".pub.pem", c.run(t, "tpmctl", "pub", file))
			o := &ourKey{c, k, key, file, pub}
			t.Run("tpm2-openssl", o.byOpenSSL)
			t.Run("tpm2-tools, PEM", o.byToolsPEM)
			t.Run("tpm2-tools, pair", o.byToolsPair)
			t.Run("go-tpm-keyfiles", o.byKeyfiles)
			t.Run("openssl", o.byPlainOpenSSL)
		})
	}
}

// hashName is what OpenSSL and tpm2-tools call the key's hash.
func (o *ourKey) hashName() string {
	return map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}[o.kind.hash]
}

func (o *ourKey) rsa() *rsa.PublicKey {
	public, _ := o.key.PublicKey().(*rsa.PublicKey)
	return public
}

// check verifies a signature of the message.
func (o *ourKey) check(t *testing.T, sig []byte) {
	t.Helper()
	if err := verify(o.key.PublicKey(), digest(o.kind.hash), sig, o.kind.hash); err != nil {
		t.Error(err)
	}
}

// passIn are OpenSSL's flags for the key's secret.
func (o *ourKey) passIn() []string {
	if o.kind.secret {
		return []string{"-passin", "pass:" + secret}
	}
	return nil
}

// byOpenSSL uses the key as tpm2-openssl's users do.
func (o *ourKey) byOpenSSL(t *testing.T) {
	flags := func(args ...string) []string { return append(o.passIn(), args...) }
	o.openssl(t, "dgst", flags("-"+o.hashName(), "-sign", o.file, "-out", "openssl.sig", messageFile)...)
	o.check(t, o.read(t, "openssl.sig"))

	crt := o.openssl(t, "req", flags("-x509", "-new", "-"+o.hashName(), "-key", o.file, "-subj", "/CN=localhost")...)
	block, _ := pem.Decode(crt)
	if block == nil {
		t.Fatalf("no certificate: %s", crt)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		t.Error(err)
	}

	if o.rsa() != nil {
		o.encrypt(t)
		got := o.openssl(t, "pkeyutl", flags("-decrypt", "-inkey", o.file, "-in", "encrypted")...)
		if !bytes.Equal(got, message) {
			t.Errorf("decrypted %q", got)
		}
	}
}

// encrypt writes the file encrypted, with PKCS#1 v1.5.
func (o *ourKey) encrypt(t *testing.T) {
	t.Helper()
	o.run(t, "openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", o.pub, "-in", messageFile, "-out", "encrypted")
}

// byToolsPEM has tpm2-tools load the file as it is.
func (o *ourKey) byToolsPEM(t *testing.T) {
	o.run(t, "tpm2_load", "-r", o.file, "-c", "key.ctx")
	o.byTools(t)
}

// byToolsPair has tpm2-tools load what they store as two files.
func (o *ourKey) byToolsPair(t *testing.T) {
	parent := srk
	if !o.kind.persistent {
		parent = o.primary(t)
	}
	o.loadPair(t, o.key, parent)
	o.byTools(t)
}

// loadPair has tpm2-tools load a key into key.ctx.
func (c *chip) loadPair(t *testing.T, key blob.Key, parent string) {
	t.Helper()
	pair := key.(*blob.TSS2)
	c.write(t, "key.pub", pair.Public)
	c.write(t, "key.priv", pair.Private)
	c.run(t, "tpm2_load", "-C", parent, "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
}

// byTools uses the key in key.ctx.
func (o *ourKey) byTools(t *testing.T) {
	t.Helper()
	auth := func(args ...string) []string {
		if o.kind.secret {
			args = append(args, "-p", secret)
		}
		return args
	}
	o.run(t, "tpm2_sign", auth("-c", "key.ctx", "-g", o.hashName(), "-f", "plain", "-o", "tools.sig", messageFile)...)
	o.check(t, o.read(t, "tools.sig"))
	if o.rsa() == nil {
		return
	}
	o.encrypt(t)
	o.run(t, "tpm2_rsadecrypt", auth("-c", "key.ctx", "-s", "rsaes", "-o", "decrypted", "encrypted")...)
	if got := o.read(t, "decrypted"); !bytes.Equal(got, message) {
		t.Errorf("decrypted %q", got)
	}
}

// byKeyfiles uses the key as a Go program with go-tpm-keyfiles does.
func (o *ourKey) byKeyfiles(t *testing.T) {
	key, err := keyfile.Decode(o.read(t, o.kind.name))
	if err != nil {
		t.Fatal(err)
	}
	if key.HasAuth() != o.kind.secret {
		t.Errorf("HasAuth() = %v", key.HasAuth())
	}
	tpm := o.raw(t)
	defer o.flush(t)
	defer tpm.Close()
	signer, err := key.Signer(tpm, nil, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(nil, digest(o.kind.hash), o.kind.hash)
	if err != nil {
		t.Fatal(err)
	}
	o.check(t, sig)
}

// byPlainOpenSSL has an OpenSSL that knows of no TPM verify what the key signs and encrypt
// what it decrypts.
func (o *ourKey) byPlainOpenSSL(t *testing.T) {
	o.encryptOAEP(t)
	opts := &tpmkey.LoadOptions{}
	if o.kind.secret {
		opts.Auth = tpmkey.Password([]byte(secret))
	}
	o.useKey(t, o.file, opts, func(key *tpmkey.Key) {
		sig, err := key.Sign(nil, digest(o.kind.hash), o.kind.hash)
		if err != nil {
			t.Fatal(err)
		}
		o.write(t, "plain.sig", sig)
		if o.rsa() == nil {
			return
		}
		got, err := key.Decrypt(nil, o.read(t, "encrypted"), &rsa.OAEPOptions{Hash: crypto.SHA256})
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("decrypted %q, %v", got, err)
		}
	})
	o.run(t, "openssl", "dgst", "-"+o.hashName(), "-verify", o.pub, "-signature", "plain.sig", messageFile)
}

func (o *ourKey) encryptOAEP(t *testing.T) {
	t.Helper()
	if o.rsa() != nil {
		o.run(t, "openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", o.pub, "-in", messageFile, "-out", "encrypted",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256")
	}
}
