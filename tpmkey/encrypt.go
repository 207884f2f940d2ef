package tpmkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

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
	if room := e.room(); len(message) > room {
		text := fmt.Sprintf("%d bytes are too many for this key, which takes %d; encrypt a session key instead", len(message), room)
		return nil, &worded{text, rsa.ErrMessageTooLong}
	}
	if err := checkGoAccepts(e.public); err != nil {
		return nil, err
	}
	message = append([]byte(e.header), message...)
	defer clear(message)
	if e.oaep == 0 {
		return rsa.EncryptPKCS1v15(rand.Reader, e.public, message)
	}
	return rsa.EncryptOAEP(e.oaep.New(), rand.Reader, e.public, message, []byte(e.label))
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
	return e.room()
}

// An encryption is the form of a ciphertext that a key's TPM takes.
type encryption struct {
	public *rsa.PublicKey
	oaep   crypto.Hash // 0 for PKCS#1 v1.5
	label  string      // for OAEP
	header string      // goes in front of the message
}

// room is how many bytes the message may have, -1 where not even the padding fits.
func (e *encryption) room() int {
	padding := 11
	if e.oaep != 0 {
		padding = 2*e.oaep.Size() + 2
	}
	return max(-1, e.public.Size()-padding-len(e.header))
}

func encryptionOf(file *blob.Key) (*encryption, error) {
	if file.TSS2 != nil {
		return encryptionOf20(file)
	}
	if !file.CanDecrypt() {
		return nil, fmt.Errorf("%w: a %v key with encryption scheme %v cannot decrypt", ErrNotSupported, file.Usage, file.EncScheme)
	}
	e := &encryption{public: file.RSAPublicKey(), header: boundDataHeader}
	if file.EncScheme == blob.ESRSAESOAEPSHA1MGF1 {
		e.oaep, e.label = crypto.SHA1, oaepLabel
	} else if file.Usage == blob.KeyLegacy { // TPM_UnBind wants no header, and takes none off
		e.header = ""
	}
	return e, nil
}

// encryptionOf20 is what TPM2_RSA_Decrypt does with nil options: see
// abilities20.checkDecrypt.
func encryptionOf20(file *blob.Key) (*encryption, error) {
	k, err := newAbilities20(file, nil)
	if err != nil {
		return nil, err
	}
	if err := k.mayDecrypt(); err != nil {
		return nil, err
	}
	e := &encryption{public: k.rsa}
	switch k.scheme.alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES:
		return e, nil
	case tpm2.TPMAlgOAEP:
		if e.oaep = hashOf(k.scheme.hash); e.oaep.Available() {
			return e, nil
		}
		return nil, fmt.Errorf("%w: this program has no %s, which this key is limited to; it must import the hash's package", ErrNotSupported, algName(k.scheme.hash))
	}
	return nil, fmt.Errorf("%w: a key of scheme %v cannot decrypt", ErrNotSupported, k.scheme)
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
