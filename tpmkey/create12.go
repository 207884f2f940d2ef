package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/tpm12"
)

// template12 is the TPM_KEY that o describes, a legacy key: it signs and decrypts.
// blob has the defaults.
func (o *CreateOptions) template12() (blob.Template, error) {
	t := blob.Template{Bits: o.Bits, EncScheme: o.EncScheme, SigScheme: o.SigScheme, NeedSecret: !o.Key.IsZero()}
	switch {
	case o.Policy != nil:
		return t, fmt.Errorf("%w: a TPM 1.2 key has no policy; policies are for TPM 2.0", ErrNotSupported)
	case o.Parent != 0:
		return t, fmt.Errorf("%w: keys of a TPM 1.2 have the SRK for parent, and no handle of another", ErrNotSupported)
	}
	if o.Type != "" {
		bits, ok := map[KeyType]int{RSA512: 512, RSA1024: 1024, RSA2048: 2048}[o.Type]
		if !ok {
			return t, fmt.Errorf("%w: this is a TPM 1.2, which has %s, %s and %s keys, not %q", ErrNotSupported, RSA2048, RSA1024, RSA512, o.Type)
		}
		if o.Bits != 0 && o.Bits != bits {
			return t, fmt.Errorf("a key of %d bits was asked for, and one of type %s; leave one of them out", o.Bits, o.Type)
		}
		t.Bits = bits
	}
	return t, nil
}

func (c *chip12) checkCreate(o *CreateOptions) error {
	_, err := newTemplate12(o)
	return err
}

func newTemplate12(o *CreateOptions) (*blob.Key, error) {
	t, err := o.template12()
	if err != nil {
		return nil, err
	}
	k, err := blob.NewTemplate(t)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return k, nil
}

func (c *chip12) create(o *CreateOptions, srk, key authData) (*blob.Key, error) {
	t, err := newTemplate12(o)
	if err != nil {
		return nil, err
	}
	// A key without a secret has 20 zero bytes; the TPM replaces the migration
	// secret of a key that cannot migrate.
	usage, migration := new(tpm12.Secret), new(tpm12.Secret)
	if key != nil {
		usage = secret12(key)
	}
	made, err := c.conn.CreateWrapKey(tpm12.SRK, secret12(srk), t.Bytes(), usage, migration)
	if err != nil {
		return nil, c.explain(err, ErrWrongSRKSecret)
	}
	k, err := blob.Parse(made)
	if err != nil {
		return nil, fmt.Errorf("the TPM made a key that cannot be read: %w", err)
	}
	if k.Usage != t.Usage || k.EncScheme != t.EncScheme || k.SigScheme != t.SigScheme ||
		k.AuthDataUsage != t.AuthDataUsage || k.KeyLength != t.KeyLength || k.Flags != t.Flags {
		return nil, errors.New("the TPM made another key than it was asked for")
	}
	k.Container = blob.PEM
	return k, nil
}

func (c *chip12) checkWrap(key crypto.PrivateKey, o *WrapOptions) error {
	_, _, err := wrapTemplate12(key, o)
	return err
}

func wrapTemplate12(key crypto.PrivateKey, o *WrapOptions) (*rsa.PrivateKey, blob.Template, error) {
	var none blob.Template
	private, ok := key.(*rsa.PrivateKey)
	if _, isRSA := key.(*rsa.PrivateKey); !isRSA {
		switch key.(type) {
		case *ecdsa.PrivateKey, ed25519.PrivateKey:
			return nil, none, errNotRSA
		}
	}
	if !ok || private == nil || private.N == nil {
		return nil, none, errors.New("there is no private key to wrap")
	}
	t, err := o.template12()
	if err != nil {
		return nil, none, err
	}
	t.Bits = private.N.BitLen()
	if _, err := blob.NewTemplate(t); err != nil {
		return nil, none, fmt.Errorf("%w: %w; make a new key with keygen", ErrNotSupported, err)
	}
	return private, t, nil
}

func (c *chip12) wrap(key crypto.PrivateKey, o *WrapOptions, with *wrapSecrets) (*blob.Key, error) {
	private, t, err := wrapTemplate12(key, o)
	if err != nil {
		return nil, err
	}
	parent, err := c.parent(with.srk, with.owner)
	if err != nil {
		return nil, err
	}
	copy(t.UsageAuth[:], with.key)
	copy(t.MigrationAuth[:], with.migration)
	defer clear(t.UsageAuth[:])
	defer clear(t.MigrationAuth[:])
	return blob.Wrap(rand.Reader, private, parent, t)
}

// parent returns the SRK's public key, for the owner's secret where owner is not nil,
// else for the SRK's.
func (c *chip12) parent(srk, owner authData) (*rsa.PublicKey, error) {
	var (
		pub  []byte
		err  error
		kind = ErrWrongSRKSecret
	)
	if owner != nil {
		kind = ErrWrongOwnerSecret
		pub, err = c.conn.OwnerReadInternalPub(tpm12.SRK, secret12(owner))
	} else {
		pub, err = c.conn.GetPubKey(tpm12.SRK, secret12(srk))
	}
	if err != nil {
		return nil, c.explain(err, kind)
	}
	return blob.ParsePubKey(pub)
}

func (c *chip12) srkReadable() (bool, error) {
	flags, err := c.conn.Flags()
	if err != nil {
		return false, c.explain(err, nil)
	}
	return flags.ReadSRKPub, nil
}

var errSeal12 = fmt.Errorf("%w: this is a TPM 1.2, and data is sealed for a TPM 2.0 only; encrypt it with tpmctl encrypt, which a key of this TPM decrypts", ErrNotSupported)

func (c *chip12) checkSeal([]byte, *SealOptions) error { return errSeal12 }

func (c *chip12) seal([]byte, *SealOptions, authData, authData) (*blob.Key, error) {
	return nil, errSeal12
}
