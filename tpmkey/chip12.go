package tpmkey

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// A chip12 is a TPM 1.2.
type chip12 struct {
	conn *tpm12.Conn
	// lockout is what the TPM said of wrong secrets when it was asked last, nil
	// where it does not tell.
	lockout     *tpm12.DAInfo
	lockoutRead time.Time
}

func newChip12(dev *transport.Device) *chip12 { return &chip12{conn: tpm12.New(dev)} }

// readLockout asks for the count of wrong secrets. It costs no try. A TPM that
// has no such capability is no error; one that does not answer for the moment is:
// no secret may be tried on a guess.
func (c *chip12) readLockout() error {
	info, err := c.conn.DictionaryAttack()
	var refused *tpm12.Error
	switch {
	case errors.Is(err, tpm12.DefendLockRunning):
		info, err = &tpm12.DAInfo{Locked: true}, nil
	case transient(err):
	case errors.As(err, &refused):
		info, err = nil, nil
	}
	if err != nil {
		c.lockoutRead = time.Time{}
		return err
	}
	c.lockout, c.lockoutRead = info, time.Now()
	return nil
}

// transient reports a refusal that says nothing about the TPM but that it is not
// ready yet.
func transient(err error) bool {
	return errors.Is(err, tpm12.Retry) || errors.Is(err, tpm12.NeedsSelfTest) || errors.Is(err, tpm12.DoingSelfTest)
}

// lockoutFresh is how long a count stands for the one before a secret is tried.
// Opening a TPM and loading a key read it once, not twice. In the meantime
// another process may add to it, which is harmless; chips take off from it only
// after minutes.
const lockoutFresh = time.Second

func (c *chip12) generation() generation { return tpm12Family }

func (c *chip12) checkUsable(k *blob.Key) (abilities, error) {
	if k.TSS2 != nil {
		return nil, &refusal{ErrWrongGeneration, "the file is for a TPM 2.0, and this is a TPM 1.2; name the other TPM with -tpm, or make a new key with keygen", nil}
	}
	if !k.CanSign() && !k.CanDecrypt() {
		return nil, fmt.Errorf("%w: a %v key (encryption %v, signature %v) can neither sign nor decrypt",
			ErrNotSupported, k.Usage, k.EncScheme, k.SigScheme)
	}
	return newAbilities12(k), nil
}

func (c *chip12) endShared() bool { return false } // there is but one

func (c *chip12) prepare(*blob.Key, bool) error { return nil }

func (c *chip12) readHandle(uint32) (*blob.Key, error) {
	return nil, fmt.Errorf("%w: a TPM 1.2 keeps no keys by handle; give a key file", ErrNotSupported)
}

func (c *chip12) ready() error {
	s, err := c.setupState()
	if err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	if !s.owned {
		return &refusal{ErrNotOwned, ownCure, nil}
	}
	return nil
}

func (c *chip12) takeOwnership(owner, srk authData) error {
	ek, err := c.endorsementKey()
	if err != nil {
		return c.explain(err, nil)
	}
	encOwner, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, ek, owner[:], []byte(oaepLabel))
	if err != nil {
		return err
	}
	encSRK, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, ek, srk[:], []byte(oaepLabel))
	if err != nil {
		return err
	}
	err = c.conn.TakeOwnership(secret12(owner), encOwner, encSRK, srkTemplate().Bytes())
	return c.explain(err, nil)
}

// endorsementKey returns the public endorsement key, and makes the key where
// the TPM came without one.
func (c *chip12) endorsementKey() (*rsa.PublicKey, error) {
	pub, err := c.conn.ReadPubek()
	if errors.Is(err, tpm12.NoEndorsement) {
		pub, err = c.conn.CreateEndorsementKeyPair()
	}
	if err != nil {
		return nil, err
	}
	return blob.ParsePubKey(pub)
}

// srkTemplate is the only kind of storage root key that TakeOwnership makes.
func srkTemplate() *blob.Key {
	return &blob.Key{
		Usage: blob.KeyStorage, AuthDataUsage: blob.AuthAlways,
		EncScheme: blob.ESRSAESOAEPSHA1MGF1, SigScheme: blob.SSNone,
		KeyLength: 2048, NumPrimes: 2,
	}
}

func (c *chip12) random(n int) ([]byte, error) {
	b, err := c.conn.GetRandom(n)
	return b, c.explain(err, nil)
}

// secret12 is a secret as TPM 1.2 has it.
func secret12(auth authData) *tpm12.Secret {
	if auth == nil {
		return nil
	}
	return (*tpm12.Secret)(auth)
}
