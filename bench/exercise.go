//go:build linux

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	mathrand "math/rand/v2"

	"maclef/tpmkey"
)

// signAndVerify signs a digest that nobody has signed before.
func signAndVerify(k *tpmkey.Key) error {
	digest := sha256.Sum256([]byte(rand.Text()))
	if public, ok := k.Public().(*ecdsa.PublicKey); ok {
		sig, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(public, digest[:], sig) {
			err = errWrongResult
		}
		return err
	}
	public := k.Public().(*rsa.PublicKey)
	if k.File().TSS2 != nil && mathrand.IntN(2) == 0 {
		_, opts := signing(pss)
		sig, err := k.Sign(nil, digest[:], opts)
		if err == nil && rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, opts.(*rsa.PSSOptions)) != nil {
			err = errWrongResult
		}
		return err
	}
	sig, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err == nil && rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
		err = errWrongResult
	}
	return err
}

// useAll uses a key in every way that its algorithm has, and checks what comes out.
func useAll(k *tpmkey.Key) error {
	if err := signAndVerify(k); err != nil {
		return err
	}
	if public, ok := k.Public().(*ecdsa.PublicKey); ok {
		return agree(k, public)
	}
	message := []byte(rand.Text())
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, k.Public().(*rsa.PublicKey), message)
	if err != nil {
		return err
	}
	plain, err := k.Decrypt(nil, ciphertext, nil)
	if err == nil && !bytes.Equal(plain, message) {
		err = errWrongResult
	}
	return err
}

// agree agrees on a secret with a new key.
func agree(k *tpmkey.Key, public *ecdsa.PublicKey) error {
	own, err := public.ECDH()
	if err != nil {
		return err
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := other.ECDH(own)
	if err != nil {
		return err
	}
	got, err := k.ECDH(other.PublicKey())
	if err == nil && !bytes.Equal(got, want) {
		err = errWrongResult
	}
	return err
}
