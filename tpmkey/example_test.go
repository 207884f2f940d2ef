package tpmkey_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"maclef/blob"
	"maclef/tpmkey"
)

// openExample opens a software TPM in a new directory, with a new key. On a
// machine with a TPM it would be tpmkey.Open(ctx, "") and a key file of keygen.
func openExample() (tpm *tpmkey.TPM, key *tpmkey.Key, done func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	tpm, err = tpmkey.Open(context.Background(), "emulator2:"+dir)
	if err != nil {
		log.Fatal(err)
	}
	file, err := tpm.Create(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	pemKey, err := file.Marshal(blob.TSS2PEM)
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "maclef")
	if err := os.WriteFile(path, pemKey, 0o600); err != nil {
		log.Fatal(err)
	}
	key, err = tpm.LoadFile(context.Background(), path, nil)
	if err != nil {
		log.Fatal(err)
	}
	return tpm, key, func() {
		tpm.Close()
		os.RemoveAll(dir)
	}
}

// exampleCertificate is a self-signed certificate of the key.
func exampleCertificate(key *tpmkey.Key) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"example.com"},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return cert
}

// A certificate request signed inside the TPM.
func Example_x509() {
	_, key, done := openExample()
	defer done()

	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "www.example.com"},
		DNSNames: []string{"www.example.com"},
	}, key)
	if err != nil {
		log.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(request.Subject, request.SignatureAlgorithm, request.CheckSignature())
	// Output: CN=www.example.com SHA256-RSA <nil>
}

// An HTTPS server whose key is in the TPM.
func Example_tls() {
	_, key, done := openExample()
	defer done()
	cert := exampleCertificate(key)

	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	tlsCert, err := key.TLSCertificate(chain) // or key.TLSConfig(file)
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "bonjour")
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{tlsCert},
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   tls.VersionTLS12, // TLS 1.3 needs RSA-PSS, which TPM 1.2 has not
	}
	server.StartTLS()
	defer server.Close()

	roots := x509.NewCertPool()
	roots.AddCert(cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}}}
	response, err := client.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s over %s\n", bytes.TrimSpace(body), tls.VersionName(response.TLS.Version))
	// Output: bonjour over TLS 1.2
}

// An SSH signer: with it, ssh.PublicKeys logs in and ssh.ServerConfig.AddHostKey
// serves.
func Example_ssh() {
	_, key, done := openExample()
	defer done()

	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		log.Fatal(err)
	}
	// Not ssh-rsa, which is SHA-1.
	signer, err = ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512})
	if err != nil {
		log.Fatal(err)
	}
	message := []byte("bonjour")
	signature, err := signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, message, ssh.KeyAlgoRSASHA512)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signature.Format, signer.PublicKey().Verify(message, signature))
	// Output: rsa-sha2-512 <nil>
}

// Encrypting needs the key file only; decrypting needs its TPM.
func ExampleEncrypt() {
	_, key, done := openExample()
	defer done()

	ciphertext, err := tpmkey.Encrypt(key.File(), []byte("bonjour"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := key.Decrypt(rand.Reader, ciphertext, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output: bonjour
}
