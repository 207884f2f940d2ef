package chip

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
)

// An Encryption is the way to encrypt for a key, in the form that its TPM decrypts.
type Encryption struct {
	OAEP   crypto.Hash // 0 for PKCS#1 v1.5
	Label  string      // the OAEP label
	Header string      // prefix of the message
}

// MaxMessage returns the maximum length of a message, -1 if the key is too small for the padding.
func (e *Encryption) MaxMessage(public *rsa.PublicKey) int {
	padding := 11
	if e.OAEP != 0 {
		padding = 2*e.OAEP.Size() + 2
	}
	return max(-1, public.Size()-padding-len(e.Header))
}

// Encrypt encrypts a message; the ciphertext has the length of the key. Errors:
// rsa.ErrMessageTooLong and those of CheckGoAccepts.
func (e *Encryption) Encrypt(public *rsa.PublicKey, message []byte) ([]byte, error) {
	if most := e.MaxMessage(public); len(message) > most {
		text := fmt.Sprintf("%d bytes are too many for this key, which takes %d; encrypt a session key instead", len(message), max(0, most))
		return nil, WithText(text, rsa.ErrMessageTooLong)
	}
	if err := CheckGoAccepts(public); err != nil {
		return nil, err
	}
	message = append([]byte(e.Header), message...)
	defer clear(message)
	if e.OAEP == 0 {
		return rsa.EncryptPKCS1v15(rand.Reader, public, message)
	}
	return rsa.EncryptOAEP(e.OAEP.New(), rand.Reader, public, message, []byte(e.Label))
}

// CheckGoAccepts returns why crypto/rsa, and so crypto/x509 and crypto/tls, refuses a public key,
// nil if it accepts it. It calls crypto/rsa, so that GODEBUG=rsa1024min=0 has its effect: for a
// key that Go accepts, the result for a signature of zeros is rsa.ErrVerification.
func CheckGoAccepts(public *rsa.PublicKey) error {
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
