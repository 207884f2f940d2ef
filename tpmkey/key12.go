package tpmkey

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
)

// abilities12 is what a TPM 1.2 can do with a key.
type abilities12 struct {
	file   *blob.Key
	public *rsa.PublicKey
}

func newAbilities12(file *blob.Key) abilities12 {
	return abilities12{file: file, public: file.RSAPublicKey()}
}

// checkSign allows what TPM_Sign can do: PKCS#1 v1.5 with any hash for keys of
// the DER scheme, with SHA-1 for those of the SHA1 scheme.
func (k abilities12) checkSign(digest []byte, opts crypto.SignerOpts) (*signing, error) {
	if !k.file.CanSign() {
		return nil, fmt.Errorf("%w: a %v key with signature scheme %v cannot sign", ErrNotSupported, k.file.Usage, k.file.SigScheme)
	}
	hash, err := pkcs1v15Hash(opts)
	if err != nil {
		return nil, err
	}
	if k.file.SigScheme == blob.SSRSASSAPKCS1v15SHA1 && hash != crypto.SHA1 {
		return nil, fmt.Errorf("%w: a key of the SHA1 signature scheme signs SHA-1 digests only, not %s; make a DER key for others", ErrNotSupported, hashName(hash))
	}
	info, err := digestInfo(hash, digest)
	if err != nil {
		return nil, err
	}
	if room := k.public.Size() - 11; len(info) > room {
		return nil, fmt.Errorf("%w: a %d-bit key has room for %d bytes, and signing %s takes %d", ErrNotSupported, k.public.N.BitLen(), room, hashName(hash), len(info))
	}
	if len(info) == 0 {
		return nil, errors.New("nothing to sign: a TPM does not sign zero bytes")
	}
	area := info
	if k.file.SigScheme == blob.SSRSASSAPKCS1v15SHA1 {
		area = digest // the TPM puts the DigestInfo in front itself
	}
	verify := func(sig []byte) error { return verifyPKCS1v15(k.public, info, sig) }
	return &signing{area: area, verify: verify}, nil
}

// checkDecrypt allows what TPM_UnBind can do: the key's own scheme, and for
// OAEP only SHA-1 with the label "TCPA".
func (k abilities12) checkDecrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*decryption, error) {
	if err := k.checkOptions(ciphertext, opts); err != nil {
		return nil, err
	}
	d := &decryption{ciphertext: ciphertext}
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok {
		d.sessionKeyLen = o.SessionKeyLen
	}
	return d, nil
}

var errAgree12 = fmt.Errorf("%w: a TPM 1.2 has RSA keys only, which cannot agree on a secret (ECDH)", ErrNotSupported)

func (k abilities12) checkAgree(*ecdh.PublicKey) ([]byte, error) { return nil, errAgree12 }

func (k abilities12) checkOptions(ciphertext []byte, opts crypto.DecrypterOpts) error {
	if !k.file.CanDecrypt() {
		return fmt.Errorf("%w: a %v key with encryption scheme %v cannot decrypt", ErrNotSupported, k.file.Usage, k.file.EncScheme)
	}
	if len(ciphertext) != k.public.Size() {
		return fmt.Errorf("%w (it has %d bytes, the key's have %d)", errDecryption, len(ciphertext), k.public.Size())
	}
	switch o := opts.(type) {
	case nil:
		return nil
	case *rsa.PKCS1v15DecryptOptions:
		return k.checkPKCS1v15(o)
	case *rsa.OAEPOptions:
		return k.checkOAEP(o)
	}
	return fmt.Errorf("%w: decryption options of type %T", ErrNotSupported, opts)
}

func (k abilities12) checkPKCS1v15(o *rsa.PKCS1v15DecryptOptions) error {
	switch {
	case k.file.EncScheme != blob.ESRSAESPKCSv15:
		return fmt.Errorf("%w: this key decrypts OAEP only, not PKCS#1 v1.5", ErrNotSupported)
	case o == nil:
		return fmt.Errorf("%w: the options are a nil pointer", ErrNotSupported)
	case o.SessionKeyLen < 0 || o.SessionKeyLen > k.public.Size()-11:
		return fmt.Errorf("%w: a session key of %d bytes with a %d-bit key", ErrNotSupported, o.SessionKeyLen, k.public.N.BitLen())
	}
	return nil
}

func (k abilities12) checkOAEP(o *rsa.OAEPOptions) error {
	switch {
	case k.file.EncScheme != blob.ESRSAESOAEPSHA1MGF1:
		return fmt.Errorf("%w: this key decrypts PKCS#1 v1.5 only, not OAEP", ErrNotSupported)
	case o == nil:
		return fmt.Errorf("%w: the options are a nil pointer", ErrNotSupported)
	case o.Hash != crypto.SHA1 || o.MGFHash != 0 && o.MGFHash != crypto.SHA1 || string(o.Label) != oaepLabel:
		return fmt.Errorf("%w: a TPM 1.2 decrypts OAEP with SHA-1 and label %q only; leave the options nil, or set these", ErrNotSupported, oaepLabel)
	}
	return nil
}

// pkcs1v15Hash returns the hash that opts ask for, 0 for raw bytes.
func pkcs1v15Hash(opts crypto.SignerOpts) (crypto.Hash, error) {
	switch o := opts.(type) {
	case nil:
		return 0, fmt.Errorf("%w: signing needs options: the hash, such as crypto.SHA256, or crypto.Hash(0) for raw bytes", ErrNotSupported)
	case crypto.Hash:
		return o, nil
	case *rsa.PSSOptions:
		return 0, fmt.Errorf("%w: a TPM 1.2 has no RSA-PSS; use PKCS#1 v1.5 (in TLS: version 1.2 and a certificate limited to PKCS#1, as TLSConfig gives)", ErrNotSupported)
	}
	return 0, fmt.Errorf("%w: signing options of type %T; give a crypto.Hash", ErrNotSupported, opts)
}
