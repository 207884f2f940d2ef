//go:build linux

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/tpmkey"
)

// A keyFile is a key file, and its password where it has one.
type keyFile struct {
	Path     string
	Password string
}

// load loads the key as any program does.
func (f keyFile) load(tpm *tpmkey.TPM) (*tpmkey.Key, error) {
	opts := new(tpmkey.LoadOptions)
	if f.Password != "" {
		opts.Key = tpmkey.Password([]byte(f.Password))
	}
	return tpm.LoadFile(f.Path, opts)
}

// use opens the TPM, loads the key, and closes both.
func (f keyFile) use(tpmName string, use func(*tpmkey.Key) error) error {
	return useKeys(tpmName, []keyFile{f}, func(keys []*tpmkey.Key) error { return use(keys[0]) })
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

// A mint makes key files for a software TPM, of RSA keys made in software: that
// is quick, and any number of files can have the same key.
type mint struct {
	tpm *softTPM
	srk *rsa.PublicKey
}

// newMint gives the TPM an owner and an SRK, both with the well-known secret.
func newMint(s *softTPM) (*mint, error) {
	tpm, err := tpmkey.Open(s.name())
	if err != nil {
		return nil, err
	}
	err = tpm.TakeOwnership(tpmkey.WellKnown(), tpmkey.WellKnown())
	if err := errors.Join(err, tpm.Close()); err != nil {
		return nil, err
	}
	m := &mint{tpm: s}
	err = s.direct(func(d *direct) error {
		conn := tpm12.New(d)
		data, err := conn.OwnerReadInternalPub(tpm12.SRK, new(tpm12.Secret))
		if err != nil {
			return err
		}
		if m.srk, err = blob.ParsePubKey(data); err != nil {
			return err
		}
		return flushAll(conn)
	})
	return m, err
}

// make writes a key file; an empty password makes a key without a secret.
func (m *mint) make(name string, priv *rsa.PrivateKey, password string) (keyFile, error) {
	f := keyFile{Path: m.tpm.path(name), Password: password}
	key, err := m.wrap(priv, password)
	if err != nil {
		return f, err
	}
	return f, f.write(key)
}

func (f keyFile) write(key *blob.Key) error {
	data, err := key.Marshal(blob.PEM)
	if err != nil {
		return err
	}
	return os.WriteFile(f.Path, data, 0o600)
}

func (m *mint) wrap(priv *rsa.PrivateKey, password string) (*blob.Key, error) {
	template := blob.Template{Bits: priv.N.BitLen(), NeedSecret: password != ""}
	if template.NeedSecret {
		template.UsageAuth = sha1.Sum([]byte(password))
	}
	return blob.Wrap(rand.Reader, priv, m.srk, template)
}

// makeMany writes so many files without a secret, all of one key. blob.Wrap would
// see each time whether the key is one, which takes long.
func (m *mint) makeMany(n int, priv *rsa.PrivateKey) ([]keyFile, error) {
	key, err := m.wrap(priv, "")
	if err != nil {
		return nil, err
	}
	private := storeAsymkey(key, priv)
	files := make([]keyFile, n)
	for i := range files {
		files[i].Path = m.tpm.path(fmt.Sprintf("many%d", i))
		if key.EncData, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, m.srk, private, []byte("TCPA")); err != nil {
			return nil, err
		}
		if err := files[i].write(key); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// storeAsymkey is what a key file has encrypted: TPM Main Part 2, section 10.6
// (TPM_STORE_ASYMKEY), without secrets.
func storeAsymkey(key *blob.Key, priv *rsa.PrivateKey) []byte {
	public := key.Bytes()
	public = public[:len(public)-len(key.EncData)-4]
	digest, prime := sha1.Sum(public), priv.Primes[0].Bytes()
	b := make([]byte, 1+2*sha1.Size, 256)
	b[0] = 1 // TPM_PT_ASYM
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(prime)))
	return append(b, prime...)
}

// selfSigned returns a certificate for localhost, PEM.
func selfSigned(priv *rsa.PrivateKey) ([]byte, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}
