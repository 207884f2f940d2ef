package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// An opening20 is in decryption.how: the scheme that TPM2_RSA_Decrypt is told, and
// what becomes of its answer.
type opening20 struct {
	scheme tpm2.TPMTRSADecrypt
	label  []byte // with the zero at its end
	size   int    // of the key, in bytes
	open   func(block []byte) ([]byte, error)
}

// finish returns the plaintext in what TPM2_RSA_Decrypt returned, which it clears: the
// whole block, where no scheme was told, of which a chip may have left out zeros in
// front; what was left out makes no difference in time.
func (o *opening20) finish(message []byte) ([]byte, error) {
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

// checkDecrypt finds a way to do what crypto.Decrypter is asked for. A key without a
// scheme returns the whole block, and its padding is taken off here, in a time that
// does not tell about it; nil options stand for PKCS#1 v1.5. A key with a scheme does
// exactly that. TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *abilities20) checkDecrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*decryption, error) {
	if err := k.mayDecrypt(); err != nil {
		return nil, err
	}
	switch {
	case len(ciphertext) != k.rsa.Size():
		return nil, fmt.Errorf("%w (it has %d bytes, the key's have %d)", errDecryption, len(ciphertext), k.rsa.Size())
	case new(big.Int).SetBytes(ciphertext).Cmp(k.rsa.N) >= 0:
		return nil, errDecryption
	}
	d := &decryption{ciphertext: ciphertext}
	var err error
	switch o := opts.(type) {
	case nil:
		d.how, err = k.byDefault()
	case *rsa.PKCS1v15DecryptOptions:
		if o != nil {
			d.sessionKeyLen = o.SessionKeyLen
		}
		d.how, err = k.forPKCS1(o)
	case *rsa.OAEPOptions:
		d.how, err = k.forOAEP(o)
	default:
		return nil, fmt.Errorf("%w: decryption options of type %T", ErrNotSupported, opts)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (k *abilities20) mayDecrypt() error {
	switch a := k.area.ObjectAttributes; {
	case k.rsa == nil:
		return fmt.Errorf("%w: an EC key cannot decrypt; agree on a secret with it (ECDH), and encrypt with that", ErrNotSupported)
	case a.Restricted || !a.Decrypt:
		return k.cannotDecrypt("decrypt")
	case !k.may(tpm2.TPMCCRSADecrypt):
		return k.notAllowed("decrypt (TPM2_RSA_Decrypt)")
	}
	return nil
}

// cannotDecrypt says why a key does neither decryption nor key agreement.
func (k *abilities20) cannotDecrypt(what string) error {
	if a := k.area.ObjectAttributes; a.Restricted && a.Decrypt {
		return fmt.Errorf("%w: a restricted key decrypts only what the TPM itself has made (keys); it cannot %s", ErrNotSupported, what)
	}
	return fmt.Errorf("%w: this key cannot %s: it was made without the attribute decrypt", ErrNotSupported, what)
}

// opening tells TPM2_RSA_Decrypt the key's own scheme, or that there is none.
func (k *abilities20) opening(open func([]byte) ([]byte, error)) *opening20 {
	o := &opening20{scheme: tpm2.TPMTRSADecrypt{Scheme: k.scheme.alg}, size: k.rsa.Size(), open: open}
	switch k.scheme.alg {
	case tpm2.TPMAlgRSAES:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		o.scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: k.scheme.hash})
	}
	return o
}

func (k *abilities20) byDefault() (*opening20, error) {
	switch k.scheme.alg {
	case tpm2.TPMAlgNull:
		return k.opening(openPKCS1), nil
	case tpm2.TPMAlgRSAES, tpm2.TPMAlgOAEP:
		return k.opening(nil), nil
	}
	return nil, fmt.Errorf("%w: a key of scheme %v cannot decrypt", ErrNotSupported, k.scheme)
}

func (k *abilities20) forPKCS1(o *rsa.PKCS1v15DecryptOptions) (*opening20, error) {
	switch {
	case o == nil:
		return nil, fmt.Errorf("%w: the options are a nil pointer", ErrNotSupported)
	case o.SessionKeyLen < 0 || o.SessionKeyLen > k.rsa.Size()-11:
		return nil, fmt.Errorf("%w: a session key of %d bytes with a %d-bit key", ErrNotSupported, o.SessionKeyLen, k.rsa.N.BitLen())
	case k.scheme.alg == tpm2.TPMAlgRSAES:
		return k.opening(nil), nil
	case k.scheme.alg != tpm2.TPMAlgNull:
		return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt PKCS#1 v1.5", ErrNotSupported, k.scheme)
	case o.SessionKeyLen > 0:
		n := o.SessionKeyLen
		return k.opening(func(block []byte) ([]byte, error) { return openSessionKey(block, n) }), nil
	}
	return k.opening(openPKCS1), nil
}

func (k *abilities20) forOAEP(o *rsa.OAEPOptions) (*opening20, error) {
	if o == nil {
		return nil, fmt.Errorf("%w: the options are a nil pointer", ErrNotSupported)
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
	return nil, fmt.Errorf("%w: a key of scheme %v does not decrypt OAEP", ErrNotSupported, k.scheme)
}

// check refuses hashes that the program has not, and keys that are too small.
func (o *oaep) check(public *rsa.PublicKey) error {
	for _, hash := range []crypto.Hash{o.hash, o.mgf} {
		if !hash.Available() {
			return fmt.Errorf("%w: OAEP with %s: set OAEPOptions.Hash to a hash whose package the program imports", ErrNotSupported, hashName(hash))
		}
	}
	if public.Size() < 2*o.hash.Size()+2 {
		return fmt.Errorf("%w: a %d-bit key is too small for OAEP with %s", ErrNotSupported, public.N.BitLen(), o.hash)
	}
	return nil
}

// forOAEPChip has the chip do it, with one hash for both purposes, and with labels
// that end in a zero and have no other: that zero is part of the label. TPM 2.0
// Library Part 1, annex B.4 (RSAES_OAEP).
func (k *abilities20) forOAEPChip(o *oaep) (*opening20, error) {
	own := hashOf(k.scheme.hash)
	switch zero := bytes.IndexByte(o.label, 0); {
	case own == 0 || o.hash != own || o.mgf != own:
		return nil, fmt.Errorf("%w: this key is limited to %v, for both the label and the mask", ErrNotSupported, k.scheme)
	case len(o.label) > 0 && zero != len(o.label)-1:
		return nil, fmt.Errorf("%w: a key of scheme %v takes only labels that end in a zero byte, and have no other", ErrNotSupported, k.scheme)
	case len(o.label) > k.chip.maxLabel():
		return nil, fmt.Errorf("%w: a key of scheme %v takes labels of at most %d bytes on this TPM", ErrNotSupported, k.scheme, k.chip.maxLabel())
	}
	opening := k.opening(nil)
	opening.label = bytes.Clone(o.label)
	return opening, nil
}

// maxLabel is the longest label that the chip takes: a TPM2B_DATA has the size of a
// TPMT_HA of its longest hash. TPM 2.0 Library Part 2, section 10.4.3 (TPM2B_DATA).
func (c *chipAbilities20) maxLabel() int {
	size := 0
	for _, h := range hashes20 {
		if c.algorithms[h.alg] {
			size = max(size, 2+h.hash.Size())
		}
	}
	return size
}
