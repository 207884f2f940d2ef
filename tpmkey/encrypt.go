package tpmkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/chip20"
)

// Encrypt encrypts message for the key of a key file, in the form that its TPM
// decrypts: Key.Decrypt with nil options takes it. It needs no TPM. The message has at
// most MaxMessage(file) bytes, the ciphertext as many as the key.
//
// That form is the key's own scheme; for a key of a TPM 2.0 without one, which is what
// Create makes, it is PKCS#1 v1.5. Such a key decrypts what rsa.EncryptOAEP encrypts
// with its public key, too.
//
// Errors: rsa.ErrMessageTooLong; ErrNotSupported for a key that cannot decrypt, as no
// EC key can, or that Go refuses because it is too small.
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
	if room := room(file, e); len(message) > room {
		text := fmt.Sprintf("%d bytes are too many for this key, which takes %d; encrypt a session key instead", len(message), room)
		return nil, chip.WithText(text, rsa.ErrMessageTooLong)
	}
	public := file.RSAPublicKey()
	if err := checkGoAccepts(public); err != nil {
		return nil, err
	}
	message = append([]byte(e.Header), message...)
	defer clear(message)
	if e.OAEP == 0 {
		return rsa.EncryptPKCS1v15(rand.Reader, public, message)
	}
	return rsa.EncryptOAEP(e.OAEP.New(), rand.Reader, public, message, []byte(e.Label))
}

// MaxMessage returns how many bytes Encrypt takes for a key, -1 for a key that
// cannot decrypt.
func MaxMessage(file *blob.Key) int {
	if file == nil || file.PublicKey() == nil {
		return -1
	}
	e, err := encryptionOf(file)
	if err != nil {
		return -1
	}
	return room(file, e)
}

// room is how many bytes the message may have, -1 where not even the padding fits.
func room(file *blob.Key, e *chip.Encryption) int {
	return max(-1, file.RSAPublicKey().Size()-e.Overhead())
}

func encryptionOf(file *blob.Key) (*chip.Encryption, error) {
	if file.TSS2 != nil {
		return chip20.EncryptionOf(file)
	}
	return chip12.EncryptionOf(file)
}

// checkGoAccepts returns why crypto/rsa, and with it crypto/x509 and crypto/tls,
// refuses a public key, nil where it does not. It asks Go itself, so that
// GODEBUG=rsa1024min=0 is honoured: a signature of zeros is wrong, unless the
// key is refused first.
func checkGoAccepts(public *rsa.PublicKey) error {
	err := rsa.VerifyPKCS1v15(public, crypto.SHA1, make([]byte, sha1.Size), make([]byte, public.Size()))
	switch {
	case errors.Is(err, rsa.ErrVerification):
		return nil
	case public.N.BitLen() < 1024:
		return fmt.Errorf("%w: Go refuses RSA keys below 1024 bits as insecure, and this one has %d; make a larger one (the key itself still signs and decrypts)",
			ErrNotSupported, public.N.BitLen())
	}
	return fmt.Errorf("%w: Go refuses this key: %w", ErrNotSupported, err)
}
