package interop

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"maclef/tpmkey"
)

// message is what gets signed, and messageFile its name.
var message = []byte("The quick brown fox jumps over the lazy dog\n")

const messageFile = "fox.txt"

func digest(h crypto.Hash) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// exercise has a key do everything that Go asks of one.
func exercise(t *testing.T, key *tpmkey.Key) {
	t.Helper()
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		sign(t, key, h)
		if _, ok := key.Public().(*rsa.PublicKey); ok {
			for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 20} {
				sign(t, key, &rsa.PSSOptions{Hash: h, SaltLength: salt})
			}
		}
	}
	handshake(t, key, tls.VersionTLS12)
	handshake(t, key, tls.VersionTLS13)
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		decrypt(t, key, public)
	case *ecdsa.PublicKey:
		if key.File().CanAgree() {
			agree(t, key, public)
		}
	}
}

// sign signs the message, and verifies that.
func sign(t *testing.T, key crypto.Signer, opts crypto.SignerOpts) {
	t.Helper()
	d := digest(opts.HashFunc())
	sig, err := key.Sign(rand.Reader, d, opts)
	if err == nil {
		err = verify(key.Public(), d, sig, opts)
	}
	if err != nil {
		t.Errorf("%v, %T: %v", opts.HashFunc(), opts, err)
	}
}

func verify(public crypto.PublicKey, d, sig []byte, opts crypto.SignerOpts) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(public, pss.Hash, d, sig, pss)
		}
		return rsa.VerifyPKCS1v15(public, opts.HashFunc(), d, sig)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(public, d, sig) {
			return nil
		}
	}
	return errors.New("the signature is wrong")
}

// certify makes a certificate of a key with the key, RSA-PSS if that is all it has.
func certify(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if errors.Is(err, tpmkey.ErrNotSupported) {
		template.SignatureAlgorithm = x509.SHA256WithRSAPSS
		der, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// roots trusts what is in a PEM file.
func roots(t *testing.T, certificate []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certificate) {
		t.Fatalf("no certificate: %s", certificate)
	}
	return pool
}

// handshake has the key serve TLS of this version.
func handshake(t *testing.T, key *tpmkey.Key, version uint16) {
	t.Helper()
	chain := certify(t, key)
	server, err := key.TLSConfigPEM(chain)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{RootCAs: roots(t, chain), ServerName: "localhost", MinVersion: version, MaxVersion: version}
	near, far := net.Pipe()
	defer near.Close()
	served := make(chan error, 1)
	go func() {
		defer far.Close()
		_, err := tls.Server(far, server).Write(message)
		served <- err
	}()
	got := make([]byte, len(message))
	if _, err := io.ReadFull(tls.Client(near, client), got); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%s: %q, %v; server: %v", tls.VersionName(version), got, err, <-served)
	}
}

// decrypt has the key decrypt what Go encrypted.
func decrypt(t *testing.T, key crypto.Decrypter, public *rsa.PublicKey) {
	t.Helper()
	label := []byte("an\x00label")
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
		ciphertext, err := rsa.EncryptOAEP(h.New(), rand.Reader, public, message, label)
		if err != nil {
			t.Fatal(err)
		}
		got, err := key.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: h, Label: label})
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("OAEP with %v: %q, %v", h, got, err)
		}
	}
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, message)
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.Decrypt(nil, ciphertext, nil)
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("PKCS#1 v1.5: %q, %v", got, err)
	}
	// A ciphertext that is none must look like one with a session key.
	garbage := bytes.Repeat([]byte{1}, public.Size())
	got, err = key.Decrypt(nil, garbage, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
	if err != nil || len(got) != 48 {
		t.Errorf("a wrong session key: %d bytes, %v", len(got), err)
	}
	if _, err := key.Decrypt(nil, garbage, &rsa.OAEPOptions{Hash: crypto.SHA256}); !errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("garbage: %v", err)
	}
}

// agree has the key agree on a secret with one of Go's.
func agree(t *testing.T, key *tpmkey.Key, public *ecdsa.PublicKey) {
	t.Helper()
	ours, err := public.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ours.Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := theirs.ECDH(ours)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.ECDH(theirs.PublicKey()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ECDH: %x, %v, want %x", got, err, want)
	}
	other := ecdh.X25519()
	stranger, err := other.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.ECDH(stranger.PublicKey()); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("ECDH with X25519: %v", err)
	}
}
