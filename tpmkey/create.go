package tpmkey

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
)

// CreateOptions say what key to make. The zero value, or a nil pointer, is what
// create_tpm_key makes without options: 2048 bits, PKCS#1 v1.5 encryption, DER
// signatures, no secret of its own, under an SRK with the well-known secret.
type CreateOptions struct {
	// Bits is 512, 1024 or 2048; 0 stands for 2048.
	Bits int
	// EncScheme is ESRSAESPKCSv15 or ESRSAESOAEPSHA1MGF1; 0 stands for the first.
	EncScheme blob.EncScheme
	// SigScheme is SSRSASSAPKCS1v15DER or SSRSASSAPKCS1v15SHA1; 0 stands for the
	// first. Keys of the SHA1 scheme sign SHA-1 digests only.
	SigScheme blob.SigScheme
	// SRK is the secret of the storage root key; the zero value stands for the
	// well-known secret.
	SRK Secret
	// Key is the new key's own secret. The zero value makes a key without one.
	Key Secret
}

// WrapOptions are CreateOptions for an existing key; Bits is ignored.
type WrapOptions struct {
	CreateOptions
	// Owner is the owner's secret. It is used, and asked, only where the TPM
	// does not give the SRK's public key for the SRK's secret.
	Owner Secret
	// Migration is the secret for moving the key to another TPM later. The
	// zero value is a random one, known to nobody.
	Migration Secret
}

// template is the TPM_KEY that o describes, a legacy key: it signs and decrypts.
// blob has the defaults.
func (o *CreateOptions) template() blob.Template {
	return blob.Template{Bits: o.Bits, EncScheme: o.EncScheme, SigScheme: o.SigScheme, NeedSecret: !o.Key.IsZero()}
}

// Create makes a key in the TPM, which takes from a second to a minute, and
// returns what to write in its key file: the bytes of Marshal(blob.PEM), with
// mode 0600. The TPM keeps no copy. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrNotOwned,
// ErrDisabled, ErrNotSupported for options that no key has. TPM Main Part 3,
// section 10.4 (TPM_CreateWrapKey).
func (t *TPM) Create(opts *CreateOptions) (*blob.Key, error) {
	k, err := t.create(opts)
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return k, nil
}

func (t *TPM) create(opts *CreateOptions) (*blob.Key, error) {
	if opts == nil {
		opts = new(CreateOptions)
	}
	template, err := blob.NewTemplate(opts.template())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	srk, err := t.srkSecret(opts.SRK)
	if err != nil {
		return nil, err
	}
	defer clear(srk[:])
	key, err := opts.newKeySecret()
	if err != nil {
		return nil, err
	}
	if key != nil {
		defer clear(key[:])
	}
	var made *blob.Key
	err = t.turn(func() (err error) {
		made, err = t.chip.create(template, srk, key)
		return err
	})
	return made, err
}

// newKeySecret resolves the new key's secret, nil for a key without one.
func (o *CreateOptions) newKeySecret() (authData, error) {
	if o.Key.IsZero() {
		return nil, nil
	}
	key, err := o.Key.resolve("the new key's secret")
	return &key, err
}

// Wrap makes an RSA key that exists outside the TPM into a key file of this
// TPM. The key must have 512, 1024 or 2048 bits and two primes. It is migratable
// by nature: whoever has kept the original has the key. Destroy the original,
// or better, Create a key. opts may be nil.
//
// Errors: those of Create; ErrSecretNeeded where the owner's secret is needed
// and not given; ErrWrongOwnerSecret (a try was spent).
func (t *TPM) Wrap(key *rsa.PrivateKey, opts *WrapOptions) (*blob.Key, error) {
	k, err := t.wrap(key, opts)
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	return k, nil
}

func (t *TPM) wrap(key *rsa.PrivateKey, opts *WrapOptions) (*blob.Key, error) {
	if key == nil || key.N == nil {
		return nil, errors.New("there is no private key to wrap")
	}
	if opts == nil {
		opts = new(WrapOptions)
	}
	template := opts.template()
	template.Bits = key.N.BitLen()
	if _, err := blob.NewTemplate(template); err != nil {
		return nil, fmt.Errorf("%w: %w; make a new key with keygen", ErrNotSupported, err)
	}
	parent, err := t.srkPublic(opts)
	if err != nil {
		return nil, err
	}
	auth, err := opts.newKeySecret()
	if err != nil {
		return nil, err
	}
	if auth != nil {
		template.UsageAuth = *auth
		defer clear(auth[:])
		defer clear(template.UsageAuth[:])
	}
	if opts.Migration.IsZero() {
		if _, err := rand.Read(template.MigrationAuth[:]); err != nil {
			return nil, err
		}
	} else if template.MigrationAuth, err = opts.Migration.resolve("the migration secret"); err != nil {
		return nil, err
	}
	defer clear(template.MigrationAuth[:])
	return blob.Wrap(rand.Reader, key, parent, template)
}

// srkPublic returns the SRK's public key, for the SRK's secret where the owner
// has allowed that, else for the owner's.
func (t *TPM) srkPublic(opts *WrapOptions) (public *rsa.PublicKey, err error) {
	var readable bool
	err = t.turn(func() (err error) {
		readable, err = t.chip.srkReadable()
		return err
	})
	if err != nil {
		return nil, err
	}
	var srk, owner authData
	defer func() { (&secrets{srk, owner}).clear() }()
	if readable {
		srk, err = t.srkSecret(opts.SRK)
	} else {
		var auth [20]byte
		auth, err = opts.Owner.resolve("the owner's secret, because this TPM does not give the SRK's public key without it")
		owner = &auth
	}
	if err != nil {
		return nil, err
	}
	err = t.turn(func() (err error) {
		public, err = t.chip.parent(srk, owner)
		return err
	})
	return public, err
}
