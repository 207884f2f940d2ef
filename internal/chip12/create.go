package chip12

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/softkey"
	"maclef/internal/tpm12"
)

// NewKey implements chip.Chip.
func (c *Chip) NewKey(spec *chip.Spec) (func(*chip.Secrets) (blob.Key, error), error) {
	if spec.Seal != nil {
		return c.newSealed(spec)
	}
	t, err := templateOf(spec)
	if err != nil {
		return nil, err
	}
	if spec.Wrap == nil {
		area, err := blob.NewTemplate(t)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", chip.ErrNotSupported, err)
		}
		return func(with *chip.Secrets) (blob.Key, error) { return c.create(area, with) }, nil
	}
	private, err := wrappable(spec.Wrap)
	if err != nil {
		return nil, err
	}
	if err := softkey.CheckRSA(private, "TPM 1.2", 512, 1024, 2048); err != nil {
		return nil, chip.WithText(err.Error(), chip.ErrNotWrappable)
	}
	t.Bits = private.N.BitLen()
	if _, err := blob.NewTemplate(t); err != nil {
		return nil, fmt.Errorf("%w: %w", chip.ErrNotWrappable, err)
	}
	return func(with *chip.Secrets) (blob.Key, error) { return c.wrap(private, t, with) }, nil
}

// templateOf returns the template that spec describes, for a legacy key, which signs and
// decrypts. Package blob sets the defaults.
func templateOf(spec *chip.Spec) (blob.Template, error) {
	t := blob.Template{Bits: spec.Bits, EncScheme: spec.EncScheme, SigScheme: spec.SigScheme, NeedSecret: spec.Secret}
	switch {
	case spec.Policy != nil:
		return t, fmt.Errorf("%w: a TPM 1.2 key has no policy; policies are for TPM 2.0", chip.ErrNotSupported)
	case spec.Parent != 0:
		return t, fmt.Errorf("%w: keys of a TPM 1.2 have the SRK for parent, and no handle of another", chip.ErrNotSupported)
	}
	if spec.Type != "" {
		bits, ok := map[chip.KeyType]int{chip.RSA512: 512, chip.RSA1024: 1024, chip.RSA2048: 2048}[spec.Type]
		if !ok {
			return t, fmt.Errorf("%w: this is a TPM 1.2, which has %s, %s and %s keys, not %q", chip.ErrNotSupported, chip.RSA2048, chip.RSA1024, chip.RSA512, spec.Type)
		}
		if spec.Bits != 0 && spec.Bits != bits {
			return t, fmt.Errorf("a key of %d bits was asked for, and one of type %s; leave one of them out", spec.Bits, spec.Type)
		}
		t.Bits = bits
	}
	return t, nil
}

// create creates a key. TPM Main Part 3, section 10.4 (TPM_CreateWrapKey).
func (c *Chip) create(t *blob.TPMKey, with *chip.Secrets) (blob.Key, error) {
	// The secret of a key without one is 20 zero bytes. The TPM replaces the migration secret of
	// a non-migratable key.
	usage, migration := new(tpm12.Secret), new(tpm12.Secret)
	if with.Key != nil {
		usage = secretOf(with.Key)
	}
	made, err := c.conn.CreateWrapKey(tpm12.SRK, secretOf(with.Parent), t.Bytes(), usage, migration)
	if err != nil {
		return nil, c.explain(err, chip.ErrWrongSRKSecret)
	}
	k, err := blob.NewTPMKey(made)
	if err != nil {
		return nil, fmt.Errorf("the TPM made a key that cannot be read: %w", err)
	}
	if k.Usage != t.Usage || k.EncScheme != t.EncScheme || k.SigScheme != t.SigScheme ||
		k.AuthDataUsage != t.AuthDataUsage || k.KeyLength != t.KeyLength || k.Flags != t.Flags {
		return nil, errors.New("the TPM made a key that differs from the request")
	}
	return k, nil
}

var errNotRSA = fmt.Errorf("%w: a TPM 1.2 has RSA only, and this key is of another algorithm", chip.ErrNotWrappable)

// wrappable returns key as an RSA key.
func wrappable(key crypto.PrivateKey) (*rsa.PrivateKey, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key != nil && key.N != nil {
			return key, nil
		}
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return nil, errNotRSA
	}
	return nil, errors.New("there is no private key to wrap")
}

func (c *Chip) wrap(private *rsa.PrivateKey, t blob.Template, with *chip.Secrets) (blob.Key, error) {
	srk, err := c.readSRK(with)
	if err != nil {
		return nil, err
	}
	copy(t.UsageAuth[:], with.Key)
	copy(t.MigrationAuth[:], with.Migration)
	defer clear(t.UsageAuth[:])
	defer clear(t.MigrationAuth[:])
	k, err := blob.Wrap(rand.Reader, private, srk, t)
	if err != nil {
		return nil, chip.WithText(err.Error(), chip.ErrNotWrappable)
	}
	return k, nil
}

// readSRK returns the SRK's public key. The owner's secret authorizes that if it is given, else
// the SRK's.
func (c *Chip) readSRK(with *chip.Secrets) (*rsa.PublicKey, error) {
	var (
		pub   []byte
		err   error
		wrong = chip.ErrWrongSRKSecret
	)
	if with.Owner != nil {
		wrong = chip.ErrWrongOwnerSecret
		pub, err = c.conn.OwnerReadInternalPub(tpm12.SRK, secretOf(with.Owner))
	} else {
		pub, err = c.conn.GetPubKey(tpm12.SRK, secretOf(with.Parent))
	}
	if err != nil {
		return nil, c.explain(err, wrong)
	}
	return blob.ParsePubKey(pub)
}
