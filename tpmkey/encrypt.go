package tpmkey

import (
	"fmt"

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
func Encrypt(file *blob.Key, message []byte) ([]byte, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, fmt.Errorf("encrypt: %w", errNoKey)
	}
	out, err := encrypt(file, message)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}

func encrypt(file *blob.Key, message []byte) ([]byte, error) {
	e, err := encryptionOf(file)
	if err != nil {
		return nil, err
	}
	return e.Encrypt(file.RSAPublicKey(), message)
}

// MaxMessage returns how many bytes Encrypt takes for a key, -1 for a key that cannot decrypt.
func MaxMessage(file *blob.Key) int {
	if file == nil || file.PublicKey() == nil {
		return -1
	}
	e, err := encryptionOf(file)
	if err != nil {
		return -1
	}
	return e.Room(file.RSAPublicKey())
}

func encryptionOf(file *blob.Key) (*chip.Encryption, error) {
	if file.TSS2 != nil {
		return chip20.EncryptionOf(file)
	}
	return chip12.EncryptionOf(file)
}
