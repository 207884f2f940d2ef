package tpmkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"maclef/blob"
)

// oaepLabel is the label that TPM 1.2 fixes for OAEP. TPM Main Part 1
// (TPM_ES_RSAESOAEP_SHA1_MGF1).
const oaepLabel = "TCPA"

// boundDataHeader leads what TPM_UnBind takes for a TPM_BOUND_DATA: version
// 1.1.0.0 and payload TPM_PT_BIND. TPM Main Part 2, section 9.5
// (TPM_BOUND_DATA).
const boundDataHeader = "\x01\x01\x00\x00\x02"

// Encrypt encrypts message for the key of a key file, in the form that its TPM
// decrypts. It needs no TPM. The message has at most MaxMessage(file) bytes, the
// ciphertext as many as the key.
//
// Errors: rsa.ErrMessageTooLong; ErrNotSupported for a key that cannot decrypt,
// or that Go refuses because it is too small.
func Encrypt(file *blob.Key, message []byte) ([]byte, error) {
	if file == nil || file.RSAPublicKey() == nil {
		return nil, fmt.Errorf("encrypt: %w", errNoKey)
	}
	if room := MaxMessage(file); len(message) > room {
		if !file.CanDecrypt() {
			return nil, fmt.Errorf("encrypt: %w: a %v key with encryption scheme %v cannot decrypt", ErrNotSupported, file.Usage, file.EncScheme)
		}
		text := fmt.Sprintf("encrypt: %d bytes are too many for this key, which takes %d; encrypt a session key instead", len(message), room)
		return nil, &worded{text, rsa.ErrMessageTooLong}
	}
	public := file.RSAPublicKey()
	if err := checkGoAccepts(public); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	var (
		out []byte
		err error
	)
	message = append(header(file), message...)
	defer clear(message)
	if file.EncScheme == blob.ESRSAESOAEPSHA1MGF1 {
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public, message, []byte(oaepLabel))
	} else {
		out, err = rsa.EncryptPKCS1v15(rand.Reader, public, message)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}

// MaxMessage returns how many bytes Encrypt takes for a key, -1 for a key that
// cannot decrypt.
func MaxMessage(file *blob.Key) int {
	switch {
	case file == nil || !file.CanDecrypt() || file.RSAPublicKey() == nil:
		return -1
	case file.EncScheme == blob.ESRSAESOAEPSHA1MGF1:
		return file.RSAPublicKey().Size() - 2*sha1.Size - 2 - len(header(file))
	}
	return file.RSAPublicKey().Size() - 11 - len(header(file))
}

// header is what TPM_UnBind wants in front of a message, and takes off: nothing
// only for PKCS#1 v1.5 with a legacy key.
func header(file *blob.Key) []byte {
	if file.EncScheme == blob.ESRSAESPKCSv15 && file.Usage == blob.KeyLegacy {
		return nil
	}
	return []byte(boundDataHeader)
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
