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

// A decryptPlan is the scheme that TPM2_RSA_Decrypt is told, and
// what becomes of its answer.
type decryptPlan struct {
	scheme tpm2.TPMTRSADecrypt
	label  []byte // with the zero at its end
	size   int    // of the key, in bytes
	open   func(block []byte) ([]byte, error)
}

// finish returns the plaintext in what TPM2_RSA_Decrypt returned, which it clears: the
// whole block, where no scheme was told, of which a chip may have left out zeros in
// front; what was left out makes no difference in time.
func (o *decryptPlan) finish(message []byte) ([]byte, error) {
	if o.open == nil {
		if len(message) > o.size-11 {
			return nil, errTooMuch
		}
		return message, nil
	}
	if len(message) > o.size {
		return nil, errTooMuch
	}
	block := make([]byte, o.size)
	copy(block[o.size-len(message):], message)
	clear(message)
	return o.open(block)
}

var errTooMuch = errors.New("the TPM returned more plaintext than fits: the chip or its connection is faulty")

// decrypt finds a way to do what crypto.Decrypter is asked for.
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

// planDecrypt does it. A key without a
// scheme returns the whole block, and its padding is taken off here, in a time that
// does not tell about it; nil options stand for PKCS#1 v1.5. A key with a scheme does
// exactly that. TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
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
		return k.byDefault()
	case *rsa.PKCS1v15DecryptOptions:
		return k.forPKCS1(o)
	case *rsa.OAEPOptions:
		return k.forOAEP(o)
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
		return k.notAllowed("decrypt (TPM2_RSA_Decrypt)")
	}
	return nil
}

// cannotDecrypt says why a key does neither decryption nor key agreement.
func (k *keyOps) cannotDecrypt(what string) error {
	if a := k.area.ObjectAttributes; a.Restricted && a.Decrypt {
		return fmt.Errorf("%w: a restricted key decrypts only what the TPM itself has made (keys); it cannot %s", chip.ErrNotSupported, what)
	}
	return fmt.Errorf("%w: this key cannot %s: it was made without the attribute decrypt", chip.ErrNotSupported, what)
}

// opening tells TPM2_RSA_Decrypt the key's own scheme, or that there is none.
func (k *keyOps) opening(open func([]byte) ([]byte, error)) *decryptPlan {
	o := &decryptPlan{scheme: tpm2.TPMTRSADecrypt{Scheme: k.scheme.alg}, size: k.rsa.Size(), open: open}
	switch k.scheme.alg {
	case tpm2.TPMAlgRSAES:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: k.scheme.hash})
	}
	return o
}

func (k *keyOps) byDefault() (*decryptPlan, error) {
	switch k.scheme.alg {
	case tpm2.TPMAlgNull:
		return k.opening(openPKCS1), nil
	case tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP:
		return k.opening(nil), nil
	}
	return nil, fmt.Errorf("%w: a key of scheme %v cannot decrypt", chip.ErrNotSupported, k.scheme)
}

func (k *keyOps) forPKCS1(o *rsa.PKCS1v15DecryptOptions) (*decryptPlan, error) {
	switch {
	case o == nil:
		return nil, fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
	case o.SessionKeyLen < 0 || o.SessionKeyLen > k.rsa.Size()-11:
		return nil, fmt.Errorf("%w: a session key of %d bytes with a %d-bit key", chip.ErrNotSupported, o.SessionKeyLen, k.rsa.N.BitLen())
	case k.scheme.alg == tpm2.TPMAlgRSAES:
		return k.opening(nil), nil
	case k.scheme.alg != tpm2.TPMAlgNull:
		return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt PKCS#1 v1.5", chip.ErrNotSupported, k.scheme)
	case o.SessionKeyLen > 0:
		n := o.SessionKeyLen
		return k.opening(func(block []byte) ([]byte, error) { return openSessionKey(block, n) }), nil
	}
	return k.opening(openPKCS1), nil
}

func (k *keyOps) forOAEP(o *rsa.OAEPOptions) (*decryptPlan, error) {
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
		return k.opening(scheme.open), nil
	case tpm2.TPMAlgOAEP:
		return k.forOAEPChip(&scheme)
	}
	return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt OAEP", chip.ErrNotSupported, k.scheme)
}

// check refuses hashes that the program has not, and keys that are too small.
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

// forOAEPChip has the chip do it, with one hash for both purposes, and with labels
// that end in a zero and have no other: that zero is part of the label. TPM 2.0
// Library Part 1, annex B.4 (RSAES_OAEP).
func (k *keyOps) forOAEPChip(o *oaep) (*decryptPlan, error) {
	own := hashOf(k.scheme.hash)
	switch zero := bytes.IndexByte(o.label, 0); {
	case own == 0 || o.hash != own || o.mgf != own:
		return nil, fmt.Errorf("%w: this key is limited to %v, for both the label and the mask", chip.ErrNotSupported, k.scheme)
	case len(o.label) > 0 && zero != len(o.label)-1:
		return nil, fmt.Errorf("%w: a key of scheme %v takes only labels that end in a zero byte, and have no other", chip.ErrNotSupported, k.scheme)
	case len(o.label) > k.can.maxLabel():
		return nil, fmt.Errorf("%w: a key of scheme %v takes labels of at most %d bytes on this TPM", chip.ErrNotSupported, k.scheme, k.can.maxLabel())
	}
	opening := k.opening(nil)
	opening.label = bytes.Clone(o.label)
	return opening, nil
}

// maxLabel is the longest label that the chip takes: a TPM2B_DATA has the size of a
// TPMT_HA of its longest hash. TPM 2.0 Library Part 2, section 10.4.3 (TPM2B_DATA).
func (c *features) maxLabel() int {
	size := 0
	for _, h := range hashes {
		if c.algorithms[h.alg] {
			size = max(size, 2+h.hash.Size())
		}
	}
	return size
}

// EncryptionOf returns how to encrypt for a key, in the form that nil options decrypt. It
// needs no TPM.
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
