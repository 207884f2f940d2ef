//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
	"maclef/tpmkey"
)

// gen20 is TPM 2.0.
type gen20 struct{}

func (gen20) String() string  { return "TPM 2.0" }
func (gen20) flags() []string { return []string{"--tpm2"} }

// Tags of commands. TPM 2.0 Library Part 2, section 6.9 (TPM_ST).
const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
)

// emptyPassword is how many bytes of authorization follow, and those: the empty
// password. TPM 2.0 Library Part 2, section 10.13.2 (TPMS_AUTH_COMMAND).
var emptyPassword = []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}

// hello is TPM2_ReadClock. TPM 2.0 Library Part 3, section 29.1.
func (gen20) hello() []byte { return message(tagNoSessions, uint32(tpm2.TPMCCReadClock)) }

// sign20 is TPM2_Sign for a loaded key without a secret. TPM 2.0 Library Part 3,
// section 20.2.
func sign20(scheme, hash tpm2.TPMAlgID, digest []byte) func(uint32) []byte {
	noTicket := []byte{0x80, 0x24, 0x40, 0, 0, 7, 0, 0}
	return func(key uint32) []byte {
		return message(tagSessions, uint32(tpm2.TPMCCSign), key, emptyPassword,
			uint16(len(digest)), digest, uint16(scheme), uint16(hash), noTicket)
	}
}

// decrypt20 is TPM2_RSA_Decrypt by PKCS#1 v1.5, without a label. TPM 2.0 Library Part
// 3, section 14.3.
func decrypt20(ciphertext []byte) func(uint32) []byte {
	return func(key uint32) []byte {
		return message(tagSessions, uint32(tpm2.TPMCCRSADecrypt), key, emptyPassword,
			uint16(len(ciphertext)), ciphertext, uint16(tpm2.TPMAlgRSAES), uint16(0))
	}
}

// agree20 is TPM2_ECDH_ZGen with an uncompressed point. TPM 2.0 Library Part 3,
// section 14.5.
func agree20(point []byte) func(uint32) []byte {
	x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
	return func(key uint32) []byte {
		return message(tagSessions, uint32(tpm2.TPMCCECDHZGen), key, emptyPassword,
			uint16(4+len(x)+len(y)), uint16(len(x)), x, uint16(len(y)), y)
	}
}

// load loads a key file whose parent is the primary key that nearly all mean.
func (g gen20) load(d *direct, key *blob.Key) (uint32, error) {
	conn := tpm20.New(d)
	parent, err := makeSRK(conn)
	if err != nil {
		return 0, err
	}
	o, err := conn.Load(parent, nil, key.TSS2.Private, key.TSS2.Public)
	if err := errors.Join(err, conn.Flush(parent.Handle)); err != nil {
		return 0, err
	}
	return uint32(o.Handle), nil
}

func makeSRK(conn *tpm20.Conn) (*tpm20.Object, error) {
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, new(tpm2.TPMSECCPoint))
	return conn.CreatePrimary(tpm2.TPMRHOwner, nil, template)
}

// left finds sessions that were saved, too.
func (gen20) left(d *direct) (keys, sessions []uint32, err error) {
	conn := tpm20.New(d)
	list := func(first tpm2.TPMHandle) (all []uint32) {
		handles, listed := conn.Handles(first)
		for _, h := range handles {
			all = append(all, uint32(h))
		}
		err = errors.Join(err, listed)
		return all
	}
	keys = list(0x80000000)
	return keys, append(list(0x02000000), list(0x03000000)...), err
}

func (gen20) flush(d *direct, handle uint32, _ bool) error {
	return tpm20.New(d).Flush(tpm2.TPMHandle(handle))
}

// soakKeys do not fit into the TPM.
func (gen20) soakKeys() ([]crypto.Signer, error) {
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	p256Key, p256Err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384Key, p384Err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return []crypto.Signer{rsaKey, p256Key, p384Key}, errors.Join(rsaErr, p256Err, p384Err)
}

// harden is TPM2_DictionaryAttackParameters: a million tries. TPM 2.0 Library Part 3,
// section 25.3.
func (gen20) harden(d *direct) error {
	const tries, seconds = 1_000_000, 1000
	return sendChecked(d, message(tagSessions, 0x13a, uint32(tpm2.TPMRHLockout), emptyPassword,
		uint32(tries), uint32(seconds), uint32(seconds)))
}

func (gen20) shutdown(d *direct) error { return tpm20.New(d).Shutdown() }

type mint20 struct{ tpm *softTPM }

func (gen20) newMint(s *softTPM) (mint, error) { return &mint20{s}, nil }

func (m *mint20) make(name string, priv crypto.Signer, password string) (keyFile, error) {
	f := keyFile{Path: m.tpm.path(name), Password: password}
	key, err := m.wrap(priv, password)
	if err != nil {
		return f, err
	}
	return f, f.write(key)
}

func (m *mint20) wrap(priv crypto.Signer, password string) (key *blob.Key, err error) {
	tpm, err := tpmkey.Open(m.tpm.name())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	opts := new(tpmkey.WrapOptions)
	if password != "" {
		opts.Key = tpmkey.Password([]byte(password))
	}
	return tpm.Wrap(priv, opts)
}
