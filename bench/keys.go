//go:build linux

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"time"

	"maclef/blob"
	"maclef/tpmkey"
)

// A keyFile is a key file, and its password where it has one.
type keyFile struct {
	Path     string
	Password string
	Asked    bool // for the password, which is not kept
}

// kind names it in a row.
func (f keyFile) kind() string {
	switch {
	case f.Asked:
		return "asked secret"
	case f.Password != "":
		return "with secret"
	}
	return "no secret"
}

// asked is the same file with its password asked for.
func (f keyFile) asked() keyFile {
	f.Asked = true
	return f
}

// load loads the key as any program does.
func (f keyFile) load(tpm *tpmkey.TPM) (*tpmkey.Key, error) {
	opts := new(tpmkey.LoadOptions)
	secret := func() tpmkey.Secret { return tpmkey.Password([]byte(f.Password)) }
	switch {
	case f.Asked:
		opts.Key = tpmkey.AskSecret(func() (tpmkey.Secret, error) { return secret(), nil })
	case f.Password != "":
		opts.Key = secret()
	}
	return tpm.LoadFile(f.Path, opts)
}

// use opens the TPM, loads the key, and closes both.
func (f keyFile) use(tpmName string, use func(*tpmkey.Key) error) error {
	return useKeys(tpmName, []keyFile{f}, func(keys []*tpmkey.Key) error { return use(keys[0]) })
}

func (f keyFile) write(key *blob.Key) error {
	data, err := key.Marshal(key.Container)
	if err != nil {
		return err
	}
	return os.WriteFile(f.Path, data, 0o600)
}

// useKeys opens the TPM, loads keys, and closes everything.
func useKeys(tpmName string, files []keyFile, use func([]*tpmkey.Key) error) (err error) {
	tpm, err := tpmkey.Open(tpmName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	var keys []*tpmkey.Key
	for _, f := range files {
		k, err := f.load(tpm)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	return use(keys)
}

// selfSigned returns a certificate for localhost, PEM.
func selfSigned(priv crypto.Signer) ([]byte, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}
