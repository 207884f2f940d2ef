package chip20

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"maclef/blob"
	"maclef/internal/chip"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// A decryptPlan is the arguments for TPM2_RSA_Decrypt and the way to process its result.
type decryptPlan struct {
	scheme tpm2.TPMTRSADecrypt
	label  []byte // with its final zero byte
	size   int    // key size in bytes
	open   func(block []byte) ([]byte, error)
}

// finish returns the plaintext of what TPM2_RSA_Decrypt returned, and clears that. If open is
// set, message is the padded block, from which a TPM may have removed leading zeros. The time
// that finish takes does not depend on how many were removed.
func (o *decryptPlan) finish(message []byte) ([]byte, error) {
	if o.open == nil {
		if len(message) > o.size-11 {
			return nil, errPlaintextTooLong
		}
		return message, nil
	}
	if len(message) > o.size {
		return nil, errPlaintextTooLong
	}
	block := make([]byte, o.size)
	copy(block[o.size-len(message):], message)
	clear(message)
	return o.open(block)
}

var errPlaintextTooLong = errors.New("the TPM returned more plaintext than fits: the chip or its connection is faulty")

// decrypt returns the operation for the arguments of crypto.Decrypter.
func (k *keyOps) decrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*chip.Operation, error) {
	plan, err := k.planDecrypt(ciphertext, opts)
	if err != nil {
		return nil, err
	}
	op := new(chip.Operation)
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok {
		op.SessionKeyLen = o.SessionKeyLen
	}
	op.Run = func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		return in.(*loadedKey).decrypt(ciphertext, plan, op.SessionKeyLen > 0, key)
	}
	return op, nil
}

// planDecrypt returns the plan. If the key has no scheme, the TPM returns the padded block, and
// the plan removes the padding in constant time; nil options select PKCS#1 v1.5. If the key has a
// scheme, only that is possible. TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *keyOps) planDecrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*decryptPlan, error) {
	if err := k.mayDecrypt(); err != nil {
		return nil, err
	}
	switch {
	case len(ciphertext) != k.rsa.Size():
		return nil, fmt.Errorf("%w (it has %d bytes, the key's have %d)", chip.ErrDecryption, len(ciphertext), k.rsa.Size())
	case new(big.Int).SetBytes(ciphertext).Cmp(k.rsa.N) >= 0:
		return nil, chip.ErrDecryption
	}
	switch o := opts.(type) {
	case nil:
		return k.planDefault()
	case *rsa.PKCS1v15DecryptOptions:
		return k.planPKCS1(o)
	case *rsa.OAEPOptions:
		return k.planOAEP(o)
	}
	return nil, fmt.Errorf("%w: decryption options of type %T", chip.ErrNotSupported, opts)
}

func (k *keyOps) mayDecrypt() error {
	switch a := k.area.ObjectAttributes; {
	case k.rsa == nil:
		return fmt.Errorf("%w: an EC key cannot decrypt; agree on a secret with it (ECDH), and encrypt with that", chip.ErrNotSupported)
	case a.Restricted || !a.Decrypt:
		return k.cannotDecrypt("decrypt")
	case !k.may(tpm2.TPMCCRSADecrypt):
		return k.errNotAllowed("decrypt (TPM2_RSA_Decrypt)", tpm2.TPMCCRSADecrypt)
	}
	return nil
}

// cannotDecrypt returns why a key can neither decrypt nor agree on a secret.
func (k *keyOps) cannotDecrypt(what string) error {
	if a := k.area.ObjectAttributes; a.Restricted && a.Decrypt {
		return fmt.Errorf("%w: a restricted key decrypts only what the TPM itself has made (keys); it cannot %s", chip.ErrNotSupported, what)
	}
	return fmt.Errorf("%w: this key cannot %s: it was made without the attribute decrypt", chip.ErrNotSupported, what)
}

// newDecryptPlan returns a plan with the key's own scheme, or with none.
func (k *keyOps) newDecryptPlan(open func([]byte) ([]byte, error)) *decryptPlan {
	o := &decryptPlan{scheme: tpm2.TPMTRSADecrypt{Scheme: k.scheme.alg}, size: k.rsa.Size(), open: open}
	switch k.scheme.alg {
	case tpm2.TPMAlgRSAES:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: k.scheme.hash})
	}
	return o
}

func (k *keyOps) planDefault() (*decryptPlan, error) {
	switch k.scheme.alg {
	case tpm2.TPMAlgNull:
		return k.newDecryptPlan(openPKCS1), nil
	case tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP:
		return k.newDecryptPlan(nil), nil
	}
	return nil, fmt.Errorf("%w: a key of scheme %v cannot decrypt", chip.ErrNotSupported, k.scheme)
}

func (k *keyOps) planPKCS1(o *rsa.PKCS1v15DecryptOptions) (*decryptPlan, error) {
	switch {
	case o == nil:
		return nil, fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
	case o.SessionKeyLen < 0 || o.SessionKeyLen > k.rsa.Size()-11:
		return nil, fmt.Errorf("%w: a session key of %d bytes with a %d-bit key", chip.ErrNotSupported, o.SessionKeyLen, k.rsa.N.BitLen())
	case k.scheme.alg == tpm2.TPMAlgRSAES:
		return k.newDecryptPlan(nil), nil
	case k.scheme.alg != tpm2.TPMAlgNull:
		return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt PKCS#1 v1.5", chip.ErrNotSupported, k.scheme)
	case o.SessionKeyLen > 0:
		n := o.SessionKeyLen
		return k.newDecryptPlan(func(block []byte) ([]byte, error) { return openSessionKey(block, n) }), nil
	}
	return k.newDecryptPlan(openPKCS1), nil
}

func (k *keyOps) planOAEP(o *rsa.OAEPOptions) (*decryptPlan, error) {
	if o == nil {
		return nil, fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
	}
	scheme := oaep{o.Hash, o.MGFHash, o.Label}
	if scheme.mgf == 0 {
		scheme.mgf = scheme.hash
	}
	switch k.scheme.alg {
	case tpm2.TPMAlgNull:
		if err := scheme.check(k.rsa); err != nil {
			return nil, err
		}
		scheme.label = bytes.Clone(o.Label)
		return k.newDecryptPlan(scheme.open), nil
	case tpm2.TPMAlgOAEP:
		return k.planOAEPByTPM(&scheme)
	}
	return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt OAEP", chip.ErrNotSupported, k.scheme)
}

// check returns an error if the hashes are not linked in, or the key is too small.
func (o *oaep) check(public *rsa.PublicKey) error {
	for _, hash := range []crypto.Hash{o.hash, o.mgf} {
		if !hash.Available() {
			return fmt.Errorf("%w: OAEP with %s: set OAEPOptions.Hash to a hash whose package the program imports", chip.ErrNotSupported, chip.HashName(hash))
		}
	}
	if public.Size() < 2*o.hash.Size()+2 {
		return fmt.Errorf("%w: a %d-bit key is too small for OAEP with %s", chip.ErrNotSupported, public.N.BitLen(), o.hash)
	}
	return nil
}

// planOAEPByTPM lets the TPM remove the padding. TPM2_RSA_Decrypt uses one hash for the label and
// the mask, and a label that must end in a zero byte and have no other. TPM 2.0 Library Part 1,
// annex B.4 (RSAES_OAEP).
func (k *keyOps) planOAEPByTPM(o *oaep) (*decryptPlan, error) {
	own := hashOf(k.scheme.hash)
	switch zero := bytes.IndexByte(o.label, 0); {
	case own == 0 || o.hash != own || o.mgf != own:
		return nil, fmt.Errorf("%w: this key is limited to %v, for both the label and the mask", chip.ErrNotSupported, k.scheme)
	case len(o.label) > 0 && zero != len(o.label)-1:
		return nil, fmt.Errorf("%w: a key of scheme %v takes only labels that end in a zero byte, and have no other", chip.ErrNotSupported, k.scheme)
	case len(o.label) > k.can.maxLabel():
		return nil, fmt.Errorf("%w: a key of scheme %v takes labels of at most %d bytes on this TPM", chip.ErrNotSupported, k.scheme, k.can.maxLabel())
	}
	plan := k.newDecryptPlan(nil)
	plan.label = bytes.Clone(o.label)
	return plan, nil
}

// maxLabel returns the maximum length of a label: a TPM2B_DATA is as long as a TPMT_HA of the
// TPM's longest hash. TPM 2.0 Library Part 2, section 10.4.3 (TPM2B_DATA).
func (c *features) maxLabel() int {
	size := 0
	for _, h := range hashes {
		if c.algorithms[h.alg] {
			size = max(size, 2+h.hash.Size())
		}
	}
	return size
}

// EncryptionOf returns how to encrypt for a key, in the form that decrypt with nil options takes.
// It needs no TPM.
func EncryptionOf(file *blob.TSS2) (*chip.Encryption, error) {
	k, err := newKeyOps(file, nil)
	if err != nil {
		return nil, err
	}
	if err := k.mayDecrypt(); err != nil {
		return nil, err
	}
	switch k.scheme.alg {
	case tpm2.TPMAlgNull, tpm2.TPMAlgRSAES:
		return new(chip.Encryption), nil
	case tpm2.TPMAlgOAEP:
		if hash := hashOf(k.scheme.hash); hash.Available() {
			return &chip.Encryption{OAEP: hash}, nil
		}
		return nil, fmt.Errorf("%w: this program has no %s, which this key is limited to; it must import the hash's package", chip.ErrNotSupported, algName(k.scheme.hash))
	}
	return nil, fmt.Errorf("%w: a key of scheme %v cannot decrypt", chip.ErrNotSupported, k.scheme)
}
