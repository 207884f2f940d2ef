package tpmkey

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/chip"
)

// A KeyType is an algorithm and a key size.
type KeyType string

// The types of keys. A TPM 1.2 has RSA512, RSA1024 and RSA2048. A TPM 2.0 has neither of the first
// two; Status returns which of the others it has.
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

// CreateOptions describe the key to make. The zero value, or a nil pointer, makes an RSA key of
// 2048 bits that signs and decrypts, has no secret, and is under an SRK without a secret. For a
// TPM 1.2 this is what create_tpm_key makes without options: PKCS#1 v1.5 encryption and DER
// signatures. For a TPM 2.0 it is a key without a scheme, under the primary key of the owner's
// hierarchy.
type CreateOptions struct {
	// Type is the type of the key; the zero value stands for RSA2048.
	Type KeyType
	// Bits is 512, 1024 or 2048, for TPM 1.2 only; 0 stands for the size of Type.
	Bits int
	// EncScheme is ESRSAESPKCSv15 or ESRSAESOAEPSHA1MGF1, for TPM 1.2 only; 0 stands
	// for the first.
	EncScheme blob.EncScheme
	// SigScheme is SSRSASSAPKCS1v15DER or SSRSASSAPKCS1v15SHA1, for TPM 1.2 only; 0
	// stands for the first. Keys of the SHA1 scheme sign SHA-1 digests only.
	SigScheme blob.SigScheme
	// ParentAuth is the secret of the storage root key (SRK), or of the Parent; the zero value
	// stands for the well-known secret.
	ParentAuth Secret
	// Auth is the new key's secret. The zero value makes a key without one.
	Auth Secret
	// Policy is required to use the key, for TPM 2.0 only; it may be nil. With an Auth, both are
	// required.
	Policy *Policy
	// Parent is the parent of the new key, for TPM 2.0 only: a persistent handle (0x81…), or a
	// hierarchy (0x4000000…), which stands for its ECC P-256 primary key. 0 stands for the
	// owner's hierarchy.
	Parent uint32
	// MovableParent is as in LoadOptions.
	MovableParent bool
}

// WrapOptions are the options of Wrap; Bits and Type are ignored.
type WrapOptions struct {
	CreateOptions
	// OwnerAuth is the owner's secret. It is needed only for a TPM 1.2 that does not return the
	// SRK's public key for the SRK's secret.
	OwnerAuth Secret
	// MigrationAuth is the secret for moving the key to another TPM 1.2 later. The zero value
	// stands for a random secret that nobody knows.
	MigrationAuth Secret
}

// Create makes a key in the TPM, which takes between a second and a minute. It returns the
// contents of the key file: write the bytes of Marshal(file.Container), with mode 0600. The TPM
// keeps no copy. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrNotOwned, ErrDisabled, ErrNoParent,
// ErrMovableParent, ErrNotSupported for options that this TPM does not support. TPM Main Part 3, section 10.4
// (TPM_CreateWrapKey); TPM 2.0 Library Part 3, section 12.1 (TPM2_Create).
func (t *TPM) Create(ctx context.Context, opts *CreateOptions) (blob.Key, error) {
	k, err := t.create(ctx, opts)
	return k, doingError("create key", err)
}

func (t *TPM) create(ctx context.Context, opts *CreateOptions) (blob.Key, error) {
	if opts == nil {
		opts = new(CreateOptions)
	}
	return t.make(ctx, opts.spec(), opts.ParentAuth, opts.Auth)
}

// spec converts the options.
func (o *CreateOptions) spec() *chip.Spec {
	s := &chip.Spec{
		Type: chip.KeyType(o.Type), Bits: o.Bits, EncScheme: o.EncScheme, SigScheme: o.SigScheme,
		Secret: !o.Auth.IsZero(), Parent: o.Parent, MovableParent: o.MovableParent,
	}
	if o.Policy != nil {
		s.Policy = o.Policy.steps
	}
	return s
}

// make makes a key file.
func (t *TPM) make(ctx context.Context, spec *chip.Spec, srk, key Secret) (made blob.Key, err error) {
	newKey, err := t.chip().NewKey(spec)
	if err != nil {
		return nil, err
	}
	with := new(chip.Secrets)
	defer with.Clear()
	if with.Parent, err = t.m.ResolveParent(ctx, spec, srk.s); err != nil {
		return nil, err
	}
	if with.Key, err = t.newKeySecret(key); err != nil {
		return nil, err
	}
	err = t.m.Make(ctx, spec.Parent, with.Parent, func() (err error) {
		made, err = newKey(with)
		return err
	})
	return made, err
}

// newKeySecret returns a new key's secret, nil for a key without one.
func (t *TPM) newKeySecret(s Secret) (chip.AuthData, error) {
	if s.IsZero() {
		return nil, nil
	}
	return t.resolve(s, "the new key's secret")
}

// resolve returns a secret in the form that the TPM takes.
func (t *TPM) resolve(s Secret, what string) (chip.AuthData, error) {
	return s.s.ResolveFor(t.chip().Generation(), what)
}

// Wrap encrypts an existing private key for this TPM, and returns the contents of the key file.
// key is an *rsa.PrivateKey with two primes or, for a TPM 2.0, an *ecdsa.PrivateKey. A TPM 1.2
// takes RSA keys of 512, 1024 or 2048 bits, and the new key is migratable. Whoever has the
// original has the key: destroy the original, or better, Create a key. opts may be nil.
//
// Errors: those of Create; ErrSecretNeeded if the owner's secret is needed and was not given;
// ErrWrongOwnerSecret (a try was spent). TPM 2.0 Library Part 3, section 13.3 (TPM2_Import).
func (t *TPM) Wrap(ctx context.Context, key crypto.PrivateKey, opts *WrapOptions) (blob.Key, error) {
	if opts == nil {
		opts = new(WrapOptions)
	}
	k, err := t.wrap(ctx, key, opts)
	return k, doingError("wrap key", err)
}

func (t *TPM) wrap(ctx context.Context, key crypto.PrivateKey, opts *WrapOptions) (made blob.Key, err error) {
	if key == nil {
		return nil, errors.New("there is no private key to wrap")
	}
	spec := opts.spec()
	spec.Wrap, spec.Migration = key, !opts.MigrationAuth.IsZero()
	newKey, err := t.chip().NewKey(spec)
	if err != nil {
		return nil, err
	}
	with := new(chip.Secrets)
	defer with.Clear()
	if err := t.parentSecret(ctx, spec, opts, with); err != nil {
		return nil, err
	}
	if with.Key, err = t.newKeySecret(opts.Auth); err != nil {
		return nil, err
	}
	if opts.MigrationAuth.IsZero() {
		with.Migration = make(chip.AuthData, 20)
		rand.Read(with.Migration)
	} else if with.Migration, err = t.resolve(opts.MigrationAuth, "the migration secret"); err != nil {
		return nil, err
	}
	err = t.m.Make(ctx, spec.Parent, with.Parent, func() (err error) {
		made, err = newKey(with)
		return err
	})
	return made, chip.MarkDefaultSecret(err, with.Owner)
}

// parentSecret resolves the secret that the TPM requires to return the SRK's public key: the
// SRK's if the owner has allowed that, else the owner's.
func (t *TPM) parentSecret(ctx context.Context, spec *chip.Spec, opts *WrapOptions, with *chip.Secrets) error {
	var readable bool
	err := t.run(ctx, func() error {
		s, err := t.chip().State()
		if err == nil {
			readable = s.SRKReadable
		}
		return err
	})
	if err != nil {
		return err
	}
	if readable {
		with.Parent, err = t.m.ResolveParent(ctx, spec, opts.ParentAuth.s)
		return err
	}
	with.Owner, err = t.resolve(opts.OwnerAuth, "the owner's secret, because this TPM does not give the SRK's public key without it")
	return err
}

// SealOptions are the options of Seal. The zero value, or a nil pointer, seals to the TPM only:
// everybody who may use the TPM can unseal the data.
type SealOptions struct {
	// These are the same as in CreateOptions. A TPM 1.2 takes a Policy, too, for PCRs of the bank
	// sha1.
	ParentAuth, Auth Secret
	Policy           *Policy
	Parent           uint32
	MovableParent    bool
}

// Seal encrypts data so that only this TPM can decrypt it: 1 to 128 bytes for a TPM 2.0, up to
// blob.MaxSealed12 for a TPM 1.2, which makes a storage key for it and takes as long as Create. It
// returns the contents of the file, as Create does. opts may be nil.
//
// A file of a TPM 1.2 is one of tpm-tools' tpm_sealdata. tpm_unsealdata opens it if it has no Auth.
//
// Errors: those of Create. TPM 2.0 Library Part 3, section 12.1 (TPM2_Create); TPM Main Part 3,
// section 10.1 (TPM_Seal).
func (t *TPM) Seal(ctx context.Context, data []byte, opts *SealOptions) (blob.Key, error) {
	if opts == nil {
		opts = new(SealOptions)
	}
	like := CreateOptions{Auth: opts.Auth, Policy: opts.Policy, Parent: opts.Parent, MovableParent: opts.MovableParent}
	spec := like.spec()
	spec.Seal = append([]byte{}, data...)
	defer clear(spec.Seal)
	made, err := t.make(ctx, spec, opts.ParentAuth, opts.Auth)
	return made, doingError("seal", err)
}

// Unseal returns the data of a sealed file. opts may be nil; it has the secrets of the data and
// of the parent. The caller should clear the data after use.
//
// Errors: those of Load and Key.Sign; ErrNotSupported for a key file. TPM 2.0 Library Part 3,
// section 12.7 (TPM2_Unseal); TPM Main Part 3, section 10.2 (TPM_Unseal).
func (t *TPM) Unseal(ctx context.Context, file blob.Key, opts *LoadOptions) ([]byte, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	data, err := t.unseal(ctx, file, opts)
	return data, doingError("unseal "+cmp.Or(opts.Name, "data"), err)
}

func (t *TPM) unseal(ctx context.Context, file blob.Key, opts *LoadOptions) ([]byte, error) {
	if file == nil {
		return nil, errNoKey
	}
	if !file.Sealed() {
		return nil, fmt.Errorf("%w: this is a key, not sealed data; use it to sign or decrypt", ErrNotSupported)
	}
	k, err := t.newKey(ctx, file, opts)
	if err != nil {
		return nil, err
	}
	data, err := k.WithContext(ctx).do(k.k.Ops.Unseal)
	if closed := k.Close(); err == nil && closed != nil {
		clear(data)
		return nil, closed
	}
	return data, err
}
