package chip12

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/chip"
)

// OpsOf returns the operations of a TPM 1.2 with a key. It needs no TPM.
func OpsOf(file *blob.TPMKey) *chip.KeyOps {
	public, _ := file.PublicKey().(*rsa.PublicKey)
	k := keyOps{file: file, public: public}
	return &chip.KeyOps{Sign: k.sign, SignMessage: k.signMessage, Decrypt: k.decrypt, Agree: k.agree, CheckAuth: checkAuth}
}

// keyOps has the functions of chip.KeyOps.
type keyOps struct {
	file   *blob.TPMKey
	public *rsa.PublicKey
}

// checkAuth reads the public key: the command needs the key's secret, and does no private key
// operation. TPM Main Part 3, section 10.6 (TPM_GetPubKey).
var checkAuth = &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
	k := in.(*loadedKey)
	_, err := k.chip.conn.GetPubKey(k.handle, k.auth(key))
	return nil, k.chip.explain(err, chip.ErrWrongKeySecret)
}}

// sign returns an operation if TPM_Sign can do it: PKCS#1 v1.5 with any hash for keys of the DER
// scheme, with SHA-1 for keys of the SHA1 scheme.
func (k keyOps) sign(digest []byte, opts crypto.SignerOpts) (*chip.Operation, error) {
	if !k.file.CanSign() {
		return nil, fmt.Errorf("%w: a %v key with signature scheme %v cannot sign", chip.ErrNotSupported, k.file.Usage, k.file.SigScheme)
	}
	hash, err := pkcs1v15Hash(opts)
	if err != nil {
		return nil, err
	}
	if k.file.SigScheme == blob.SSRSASSAPKCS1v15SHA1 && hash != crypto.SHA1 {
		return nil, fmt.Errorf("%w: a key of the SHA1 signature scheme signs SHA-1 digests only, not %s; make a DER key for others", chip.ErrKeyLimits, chip.HashName(hash))
	}
	info, err := chip.DigestInfo(hash, digest)
	if err != nil {
		return nil, err
	}
	if room := k.public.Size() - 11; len(info) > room {
		return nil, fmt.Errorf("%w: a %d-bit key has room for %d bytes, and signing %s takes %d", chip.ErrNotSupported, k.public.N.BitLen(), room, chip.HashName(hash), len(info))
	}
	if len(info) == 0 {
		return nil, errors.New("nothing to sign: a TPM does not sign zero bytes")
	}
	area := info
	if k.file.SigScheme == blob.SSRSASSAPKCS1v15SHA1 {
		area = digest // the TPM adds the DigestInfo
	}
	return &chip.Operation{
		Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
			return in.(*loadedKey).sign(area, key)
		},
		Verify: func(sig []byte) error { return chip.VerifyPKCS1v15(k.public, info, sig) },
	}, nil
}

// signMessage hashes the message in software, as TPM_Sign takes digests of programs.
func (k keyOps) signMessage(message []byte, opts crypto.SignerOpts) (*chip.Operation, error) {
	digest, err := chip.Digest(message, opts)
	if err != nil {
		return nil, err
	}
	return k.sign(digest, opts)
}

// decrypt returns an operation if TPM_UnBind can do it: the key's own scheme, and for OAEP only
// SHA-1 with the label "TCPA".
func (k keyOps) decrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*chip.Operation, error) {
	if err := k.checkOptions(ciphertext, opts); err != nil {
		return nil, err
	}
	op := new(chip.Operation)
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok {
		op.SessionKeyLen = o.SessionKeyLen
	}
	op.Run = func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		return in.(*loadedKey).decrypt(ciphertext, op.SessionKeyLen > 0, key)
	}
	return op, nil
}

var errNoAgree = fmt.Errorf("%w: a TPM 1.2 has RSA keys only, which cannot agree on a secret (ECDH)", chip.ErrNotSupported)

func (k keyOps) agree(*ecdh.PublicKey) (*chip.Operation, error) { return nil, errNoAgree }

func (k keyOps) checkOptions(ciphertext []byte, opts crypto.DecrypterOpts) error {
	if !k.file.CanDecrypt() {
		return errCannotDecrypt(k.file)
	}
	if len(ciphertext) != k.public.Size() {
		return fmt.Errorf("%w (it has %d bytes, the key's have %d)", chip.ErrDecryption, len(ciphertext), k.public.Size())
	}
	switch o := opts.(type) {
	case nil:
		return nil
	case *rsa.PKCS1v15DecryptOptions:
		return k.checkPKCS1v15(o)
	case *rsa.OAEPOptions:
		return k.checkOAEP(o)
	}
	return fmt.Errorf("%w: decryption options of type %T", chip.ErrNotSupported, opts)
}

func (k keyOps) checkPKCS1v15(o *rsa.PKCS1v15DecryptOptions) error {
	switch {
	case k.file.EncScheme != blob.ESRSAESPKCSv15:
		return fmt.Errorf("%w: this key decrypts OAEP only, not PKCS#1 v1.5", chip.ErrNotSupported)
	case o == nil:
		return fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
	case o.SessionKeyLen < 0 || o.SessionKeyLen > k.public.Size()-11:
		return fmt.Errorf("%w: a session key of %d bytes with a %d-bit key", chip.ErrNotSupported, o.SessionKeyLen, k.public.N.BitLen())
	}
	return nil
}

func (k keyOps) checkOAEP(o *rsa.OAEPOptions) error {
	switch {
	case k.file.EncScheme != blob.ESRSAESOAEPSHA1MGF1:
		return fmt.Errorf("%w: this key decrypts PKCS#1 v1.5 only, not OAEP", chip.ErrNotSupported)
	case o == nil:
		return fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
	case o.Hash != crypto.SHA1 || o.MGFHash != 0 && o.MGFHash != crypto.SHA1 || string(o.Label) != OAEPLabel:
		return fmt.Errorf("%w: a TPM 1.2 decrypts OAEP with SHA-1 and label %q only", chip.ErrNotSupported, OAEPLabel)
	}
	return nil
}

// pkcs1v15Hash returns the hash of opts, 0 for raw bytes.
func pkcs1v15Hash(opts crypto.SignerOpts) (crypto.Hash, error) {
	switch o := opts.(type) {
	case nil:
		return 0, fmt.Errorf("%w: signing needs options: the hash, such as crypto.SHA256, or crypto.Hash(0) for raw bytes", chip.ErrNotSupported)
	case crypto.Hash:
		return o, nil
	case *rsa.PSSOptions:
		return 0, fmt.Errorf("%w: a TPM 1.2 has no RSA-PSS, only PKCS#1 v1.5, and so no TLS 1.3", chip.ErrNotSupported)
	}
	return 0, fmt.Errorf("%w: signing options of type %T; give a crypto.Hash", chip.ErrNotSupported, opts)
}

// OAEPLabel is the OAEP label of all TPM 1.2 keys. TPM Main Part 1 (TPM_ES_RSAESOAEP_SHA1_MGF1).
const OAEPLabel = "TCPA"

// boundDataHeader is the start of a TPM_BOUND_DATA: version 1.1.0.0 and payload TPM_PT_BIND. TPM
// Main Part 2, section 9.5 (TPM_BOUND_DATA).
const boundDataHeader = "\x01\x01\x00\x00\x02"

// EncryptionOf returns how to encrypt for a key, in the form that TPM_UnBind takes. It needs no
// TPM.
func EncryptionOf(file *blob.TPMKey) (*chip.Encryption, error) {
	switch {
	case !file.CanDecrypt():
		return nil, errCannotDecrypt(file)
	case file.EncScheme == blob.ESRSAESOAEPSHA1MGF1:
		return &chip.Encryption{OAEP: crypto.SHA1, Label: OAEPLabel, Header: boundDataHeader}, nil
	case file.Usage == blob.KeyLegacy: // TPM_UnBind takes the plain message
		return &chip.Encryption{}, nil
	}
	return &chip.Encryption{Header: boundDataHeader}, nil
}

func errCannotDecrypt(file *blob.TPMKey) error {
	return fmt.Errorf("%w: a %v key with encryption scheme %v cannot decrypt", chip.ErrNotSupported, file.Usage, file.EncScheme)
}
