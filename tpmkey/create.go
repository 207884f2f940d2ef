package tpmkey

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"maclef/blob"
)

// A KeyType is an algorithm with the size of its keys.
type KeyType string

// The types of keys. RSA512 and RSA1024 are for TPM 1.2 only, which has besides them
// RSA2048; which of the others a TPM 2.0 has, Status tells.
const (
	RSA512  KeyType = "rsa512"
	RSA1024 KeyType = "rsa1024"
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
	RSA4096 KeyType = "rsa4096"
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	P521    KeyType = "p521"
)

// CreateOptions say what key to make. The zero value, or a nil pointer, makes a key
// of 2048 bits, RSA, that signs and decrypts and has no secret of its own, under an
// SRK without one: for a TPM 1.2 what create_tpm_key makes without options, with
// PKCS#1 v1.5 encryption and DER signatures; for a TPM 2.0 a key that no scheme is
// prescribed for, under the primary key of the owner's hierarchy.
type CreateOptions struct {
	// Type is what key to make; the zero value stands for RSA2048.
	Type KeyType
	// Bits is 512, 1024 or 2048, for TPM 1.2 only; 0 stands for what Type says.
	Bits int
	// EncScheme is ESRSAESPKCSv15 or ESRSAESOAEPSHA1MGF1, for TPM 1.2 only; 0 stands
	// for the first.
	EncScheme blob.EncScheme
	// SigScheme is SSRSASSAPKCS1v15DER or SSRSASSAPKCS1v15SHA1, for TPM 1.2 only; 0
	// stands for the first. Keys of the SHA1 scheme sign SHA-1 digests only.
	SigScheme blob.SigScheme
	// SRK is the secret of the storage root key, or of the Parent; the zero value
	// stands for the well-known secret.
	SRK Secret
	// Key is the new key's own secret. The zero value makes a key without one.
	Key Secret
	// Policy is what must hold for the key to be used, for TPM 2.0 only; nil if
	// nothing. With a Key secret, that is needed besides.
	Policy *Policy
	// Parent is the key that the new one is made under, for TPM 2.0 only: a persistent
	// handle (0x81…), or a hierarchy (0x4000000…) whose primary key, ECC P-256, is
	// made for it. 0 stands for the owner's hierarchy.
	Parent uint32
}

// WrapOptions are CreateOptions for an existing key; Bits and Type are ignored.
type WrapOptions struct {
	CreateOptions
	// Owner is the owner's secret. It is used, and asked, only where a TPM 1.2 does
	// not give the SRK's public key for the SRK's secret.
	Owner Secret
	// Migration is the secret for moving the key to another TPM 1.2 later. The
	// zero value is a random one, known to nobody.
	Migration Secret
}

// Create makes a key in the TPM, which takes from a second to a minute, and
// returns what to write in its key file, with mode 0600: the bytes of
// Marshal(file.Container). The TPM keeps no copy. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrNotOwned,
// ErrDisabled, ErrNotSupported for options that no key of this TPM has. TPM Main
// Part 3, section 10.4 (TPM_CreateWrapKey); TPM 2.0 Library Part 3, section 12.1
// (TPM2_Create).
func (t *TPM) Create(opts *CreateOptions) (*blob.Key, error) {
	k, err := t.create(opts)
	return k, doingError("create key", err)
}

func (t *TPM) create(opts *CreateOptions) (*blob.Key, error) {
	if opts == nil {
		opts = new(CreateOptions)
	}
	if err := t.chip.checkCreate(opts); err != nil {
		return nil, err
	}
	return t.make(opts.Parent, opts.SRK, opts.Key, func(srk, key authData) (*blob.Key, error) {
		return t.chip.create(opts, srk, key)
	})
}

// make makes a key file in a turn, with the secrets that it takes.
func (t *TPM) make(parent uint32, srk, key Secret, f func(srk, key authData) (*blob.Key, error)) (made *blob.Key, err error) {
	srkAuth, err := t.srkSecret(srk)
	if err != nil {
		return nil, err
	}
	defer clear(srkAuth)
	keyAuth, err := t.newKeySecret(key)
	if err != nil {
		return nil, err
	}
	defer clear(keyAuth)
	err = t.underParent(parent, srkAuth, func() (err error) {
		made, err = f(srkAuth, keyAuth)
		return err
	})
	return made, err
}

// underParent does what takes a parent's secret, and makes a key, in a turn of its own.
// A secret that was refused is not tried again; srk is nil where another's is taken.
func (t *TPM) underParent(parent uint32, srk authData, f func() error) error {
	parent = cmp.Or(parent, defaultParent)
	_, err := t.do(&work{final: true, alone: true, run: func(loadedKey, authData) ([]byte, error) {
		if srk == nil {
			return nil, f()
		}
		if err := t.checkRefused(parent, srk); err != nil {
			return nil, err
		}
		err := f()
		switch {
		case err == nil:
			t.noteProved(parent, srk)
		case errors.Is(err, ErrWrongSRKSecret):
			t.noteRefused(parent, srk)
		}
		return nil, err
	}})
	return err
}

// newKeySecret resolves a new key's secret, nil for a key without one.
func (t *TPM) newKeySecret(s Secret) (authData, error) {
	if s.IsZero() {
		return nil, nil
	}
	return s.resolveFor(t.chip.generation(), "the new key's secret")
}

// Wrap makes a key that exists outside the TPM into a key file of this TPM: an
// *rsa.PrivateKey of two primes or, for a TPM 2.0, an *ecdsa.PrivateKey. A TPM 1.2
// takes RSA keys of 512, 1024 or 2048 bits, and the file is migratable by nature. Whoever has
// kept the original has the key. Destroy the original, or better, Create a key. opts
// may be nil.
//
// Errors: those of Create; ErrSecretNeeded where the owner's secret is needed
// and not given; ErrWrongOwnerSecret (a try was spent). TPM 2.0 Library Part 3,
// section 13.3 (TPM2_Import).
func (t *TPM) Wrap(key crypto.PrivateKey, opts *WrapOptions) (*blob.Key, error) {
	if opts == nil {
		opts = new(WrapOptions)
	}
	k, err := t.wrap(key, opts)
	return k, doingError("wrap key", err)
}

// wrapSecrets are what wrap takes; owner is nil where it is not needed.
type wrapSecrets struct{ srk, owner, key, migration authData }

func (w *wrapSecrets) clear() {
	for _, auth := range []authData{w.srk, w.owner, w.key, w.migration} {
		clear(auth)
	}
}

func (t *TPM) wrap(key crypto.PrivateKey, opts *WrapOptions) (made *blob.Key, err error) {
	if err := t.chip.checkWrap(key, opts); err != nil {
		return nil, err
	}
	with := new(wrapSecrets)
	defer with.clear()
	if err := t.parentSecret(opts, with); err != nil {
		return nil, err
	}
	if with.key, err = t.newKeySecret(opts.Key); err != nil {
		return nil, err
	}
	if opts.Migration.IsZero() {
		with.migration = make(authData, 20)
		rand.Read(with.migration)
	} else if with.migration, err = opts.Migration.resolveFor(t.chip.generation(), "the migration secret"); err != nil {
		return nil, err
	}
	err = t.underParent(opts.Parent, with.srk, func() (err error) {
		made, err = t.chip.wrap(key, opts, with)
		return err
	})
	return made, err
}

// parentSecret finds out for which secret the TPM gives the SRK's public key, and
// resolves that: the SRK's, where the owner has allowed it, else the owner's.
func (t *TPM) parentSecret(opts *WrapOptions, with *wrapSecrets) error {
	var readable bool
	err := t.simply(func() (err error) {
		readable, err = t.chip.srkReadable()
		return err
	})
	if err != nil {
		return err
	}
	if readable {
		with.srk, err = t.srkSecret(opts.SRK)
		return err
	}
	with.owner, err = opts.Owner.resolveFor(t.chip.generation(),
		"the owner's secret, because this TPM does not give the SRK's public key without it")
	return err
}

// SealOptions say how to seal data. The zero value, or a nil pointer, seals it to the
// TPM alone: whoever may use that gets it back.
type SealOptions struct {
	// SRK, Key, Policy and Parent are those of CreateOptions.
	SRK, Key Secret
	Policy   *Policy
	Parent   uint32
}

// Seal encrypts data, 1 to 128 bytes, so that only this TPM opens it again, and
// returns what to write in a file, as Create does. opts may be nil.
//
// Errors: those of Create; ErrNotSupported for a TPM 1.2. TPM 2.0 Library Part 3,
// section 12.1 (TPM2_Create).
func (t *TPM) Seal(data []byte, opts *SealOptions) (*blob.Key, error) {
	if opts == nil {
		opts = new(SealOptions)
	}
	err := t.chip.checkSeal(data, opts)
	var made *blob.Key
	if err == nil {
		made, err = t.make(opts.Parent, opts.SRK, opts.Key, func(srk, key authData) (*blob.Key, error) {
			return t.chip.seal(data, opts, srk, key)
		})
	}
	return made, doingError("seal", err)
}

// Unseal returns the data of a sealed file. opts may be nil; it has the secret and
// the parent's. The caller owns what is returned, and should clear it after use.
//
// Errors: those of Load and Key.Sign; ErrNotSupported for a key file. TPM 2.0 Library
// Part 3, section 12.7 (TPM2_Unseal).
func (t *TPM) Unseal(file *blob.Key, opts *LoadOptions) ([]byte, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	data, err := t.unseal(file, opts)
	return data, doingError("unseal "+cmp.Or(opts.Name, "data"), err)
}

func (t *TPM) unseal(file *blob.Key, opts *LoadOptions) ([]byte, error) {
	if file == nil {
		return nil, errNoKey
	}
	if t.chip.generation() == tpm12Family {
		return nil, errSeal12
	}
	if file.TSS2 == nil || !file.TSS2.Sealed() {
		return nil, fmt.Errorf("%w: this is a key, not sealed data; use it to sign or decrypt", ErrNotSupported)
	}
	h, err := t.newKeyState(file, nil, opts)
	if err != nil {
		return nil, err
	}
	k := &Key{keyState: h, ctx: context.Background()}
	data, err := t.do(k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.unseal(secret) }))
	if closed := k.Close(); err == nil && closed != nil {
		clear(data)
		return nil, closed
	}
	return data, err
}
