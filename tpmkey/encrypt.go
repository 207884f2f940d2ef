package tpmkey

import (
	"crypto/rsa"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/chip20"
)

// Encrypt encrypts message for the key of a key file, in the form that Key.Decrypt with nil
// options takes. It needs no TPM. The message has at most MaxMessage(file) bytes, the ciphertext
// as many as the key.
//
// The form is the key's own scheme. For a key of a TPM 2.0 without a scheme, such as Create
// makes, it is PKCS#1 v1.5; such a key also decrypts what rsa.EncryptOAEP encrypts.
//
// Errors: rsa.ErrMessageTooLong; ErrNotSupported for a key that cannot decrypt, such as an EC
// key, or that Go refuses because it is too small.
func Encrypt(file blob.Key, message []byte) ([]byte, error) {
	e, public, err := encryptionOf(file)
	if err != nil {
		return nil, doingError("encrypt", err)
	}
	out, err := e.Encrypt(public, message)
	return out, doingError("encrypt", err)
}

// MaxMessage returns how many bytes Encrypt takes for a key, -1 for a key that cannot decrypt.
func MaxMessage(file blob.Key) int {
	e, public, err := encryptionOf(file)
	if err != nil {
		return -1
	}
	return e.MaxMessage(public)
}

// encryptionOf returns how to encrypt for a key, and its public key.
func encryptionOf(file blob.Key) (e *chip.Encryption, public *rsa.PublicKey, err error) {
	if file == nil || file.PublicKey() == nil {
		return nil, nil, errNoKey
	}
	switch file := file.(type) {
	case *blob.TPMKey:
		e, err = chip12.EncryptionOf(file)
	case *blob.TSS2:
		e, err = chip20.EncryptionOf(file)
	}
	public, _ = file.PublicKey().(*rsa.PublicKey)
	return e, public, err
}
