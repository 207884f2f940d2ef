package tpmkey

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"fmt"

	"maclef/blob"
)

// oaepLabel is the label that TPM 1.2 fixes for OAEP. TPM Main Part 1
// (TPM_ES_RSAESOAEP_SHA1_MGF1).
const oaepLabel = "TCPA"

// boundDataHeader leads what TPM_UnBind decrypts with an OAEP key: version
// 1.1.0.0 and payload TPM_PT_BIND. TPM Main Part 2, section 9.5
// (TPM_BOUND_DATA).
const boundDataHeader = "\x01\x01\x00\x00\x02"

// Encrypt encrypts message for the key of a key file, in the form that its TPM
// decrypts. It needs no TPM. The message has at most MaxMessage(file) bytes, the
// ciphertext as many as the key.
//
// Errors: ErrNotSupported for a key that cannot decrypt, or that Go refuses
// because it is too small.
func Encrypt(file *blob.Key, message []byte) ([]byte, error) {
	if room := MaxMessage(file); len(message) > room {
		if !file.CanDecrypt() {
			return nil, fmt.Errorf("encrypt: %w: a %v key with encryption scheme %v cannot decrypt", ErrNotSupported, file.Usage, file.EncScheme)
		}
		return nil, fmt.Errorf("encrypt: %d bytes are too many for this key, which takes %d; encrypt a session key instead", len(message), room)
	}
	public := file.PublicKey()
	if public.N.BitLen() < minGoBits {
		return nil, fmt.Errorf("encrypt: %w", errSmallKey(public))
	}
	var (
		out []byte
		err error
	)
	if file.EncScheme == blob.ESRSAESOAEPSHA1MGF1 {
		bound := append([]byte(boundDataHeader), message...)
		defer clear(bound)
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public, bound, []byte(oaepLabel))
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
	case !file.CanDecrypt():
		return -1
	case file.EncScheme == blob.ESRSAESOAEPSHA1MGF1:
		return file.PublicKey().Size() - 2*sha1.Size - 2 - len(boundDataHeader)
	}
	return file.PublicKey().Size() - 11
}

// minGoBits is the smallest RSA key that crypto/rsa, and with it crypto/x509
// and crypto/tls, accepts.
const minGoBits = 1024

// errSmallKey refuses a key where Go does.
func errSmallKey(public *rsa.PublicKey) error {
	return fmt.Errorf("%w: Go refuses RSA keys below %d bits as insecure, and this one has %d; make a larger one (the key itself still signs and decrypts)",
		ErrNotSupported, minGoBits, public.N.BitLen())
}
