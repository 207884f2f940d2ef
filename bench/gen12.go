//go:build linux

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/tpmkey"
)

// gen12 is TPM 1.2.
type gen12 struct{}

func (gen12) String() string  { return "TPM 1.2" }
func (gen12) flags() []string { return nil }

const tagRequest = 0x00c1 // TPM_TAG_RQU_COMMAND

// hello is TPM_GetCapability for TPM_CAP_VERSION. TPM Main Part 3, section 7.1
// (TPM_GetCapability).
func (gen12) hello() []byte { return message(tagRequest, 0x65, uint32(6), uint32(0)) }

// sign12 is TPM_Sign, decrypt12 TPM_UnBind, for a loaded key without a secret. TPM Main
// Part 3, sections 13.5 and 10.3.
func sign12(area []byte) func(uint32) []byte { return use12(0x3c, area) }

func decrypt12(ciphertext []byte) func(uint32) []byte { return use12(0x1e, ciphertext) }

func use12(ordinal uint32, data []byte) func(uint32) []byte {
	return func(key uint32) []byte { return message(tagRequest, ordinal, key, uint32(len(data)), data) }
}

func (gen12) load(d *direct, key *blob.Key) (uint32, error) {
	h, err := tpm12.New(d).LoadKey2(tpm12.SRK, key.Bytes(), new(tpm12.Secret))
	return uint32(h), err
}

func (gen12) left(d *direct) (keys, sessions []uint32, err error) {
	conn := tpm12.New(d)
	loaded, err := conn.LoadedKeys()
	if err != nil {
		return nil, nil, err
	}
	open, err := conn.Sessions()
	for _, h := range loaded {
		keys = append(keys, uint32(h))
	}
	for _, h := range open {
		sessions = append(sessions, uint32(h))
	}
	return keys, sessions, err
}

func (gen12) flush(d *direct, handle uint32, session bool) error {
	if session {
		return tpm12.New(d).FlushSession(handle)
	}
	return tpm12.New(d).FlushSpecific(tpm12.Handle(handle))
}

// soakKeys all fit into the TPM.
func (gen12) soakKeys() (keys []crypto.Signer, err error) {
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (gen12) harden(*direct) error   { return nil }
func (gen12) shutdown(*direct) error { return nil }

type mint12 struct {
	tpm *softTPM
	srk *rsa.PublicKey
}

// newMint gives the TPM an owner and an SRK, both with the well-known secret.
func (gen12) newMint(s *softTPM) (mint, error) {
	tpm, err := tpmkey.Open(s.name())
	if err != nil {
		return nil, err
	}
	err = tpm.TakeOwnership(tpmkey.WellKnown(), tpmkey.WellKnown())
	if err := errors.Join(err, tpm.Close()); err != nil {
		return nil, err
	}
	m := &mint12{tpm: s}
	err = s.direct(func(d *direct) error {
		data, err := tpm12.New(d).OwnerReadInternalPub(tpm12.SRK, new(tpm12.Secret))
		if err != nil {
			return err
		}
		if m.srk, err = blob.ParsePubKey(data); err != nil {
			return err
		}
		return s.flushAll(d)
	})
	return m, err
}

func (m *mint12) make(name string, priv crypto.Signer, password string) (keyFile, error) {
	f := keyFile{Path: m.tpm.path(name), Password: password}
	key, err := m.wrap(priv.(*rsa.PrivateKey), password)
	if err != nil {
		return f, err
	}
	return f, f.write(key)
}

func (m *mint12) wrap(priv *rsa.PrivateKey, password string) (*blob.Key, error) {
	template := blob.Template{Bits: priv.N.BitLen(), NeedSecret: password != ""}
	if template.NeedSecret {
		template.UsageAuth = sha1.Sum([]byte(password))
	}
	return blob.Wrap(rand.Reader, priv, m.srk, template)
}
