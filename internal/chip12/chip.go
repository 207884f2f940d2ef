// Package chip12 implements chip.Chip for TPM 1.2. Citations are of the TPM Main
// Specification, version 1.2.
package chip12

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// A Chip is a TPM 1.2.
type Chip struct {
	conn *tpm12.Conn
	// lockout is what the TPM said of wrong secrets when it was asked last, nil
	// where it does not tell.
	lockout     *tpm12.DAInfo
	lockoutRead time.Time
}

// Open finds out whether dev is a TPM 1.2, and waits as long for one that is busy with
// itself. Its error is a tpm12.ErrTPM20 for a TPM 2.0.
func Open(dev *transport.Device, patience time.Duration) (*Chip, error) {
	c := &Chip{conn: tpm12.New(dev)}
	c.conn.Patience = patience
	if err := c.setUpEmulator(dev); err != nil {
		return nil, fmt.Errorf("set up the software TPM: %w", err)
	}
	err := c.readLockout()
	if c.ClassOf(err) == chip.ClassNotStarted {
		if err = c.StartUp(); err == nil {
			err = c.readLockout()
		}
	}
	if err != nil && !transient(err) { // whoever needs the answer asks again
		return nil, c.explain(err, nil)
	}
	return c, nil
}

// setUpEmulator makes the software TPM of a new state directory one that can be used at
// once: owned, with well-known secrets; swtpm makes it enabled and active. A program that
// was killed on the way may have left any part of it done.
func (c *Chip) setUpEmulator(dev *transport.Device) error {
	if !dev.SetupNeeded() {
		return nil
	}
	owned, err := c.conn.Owned()
	if err != nil {
		return err
	}
	if !owned {
		wellKnown := make(chip.AuthData, 20)
		if err := c.takeOwnership(&chip.Secrets{Owner: wellKnown, Parent: wellKnown}); err != nil {
			return err
		}
	}
	return dev.SetupDone()
}

// readLockout asks for the count of wrong secrets. It costs no try. A TPM that
// has no such capability is no error; one that does not answer for the moment is:
// no secret may be tried on a guess.
func (c *Chip) readLockout() error {
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

// Generation is chip.TPM12.
func (c *Chip) Generation() chip.Generation { return chip.TPM12 }

// Use implements chip.Chip.
func (c *Chip) Use(file blob.Key) (*chip.KeyOps, error) {
	k, ok := file.(*blob.TPMKey)
	if !ok {
		return nil, chip.OfKind(chip.ErrWrongGeneration, "the file is for a TPM 2.0, and this is a TPM 1.2", nil)
	}
	if !k.CanSign() && !k.CanDecrypt() {
		return nil, fmt.Errorf("%w: a %v key (encryption %v, signature %v) can neither sign nor decrypt",
			chip.ErrNotSupported, k.Usage, k.EncScheme, k.SigScheme)
	}
	return OpsOf(k), nil
}

// Prepare has nothing to do: an operation's session needs no parent.
func (c *Chip) Prepare(blob.Key, bool) error { return nil }

// ReadHandle is refused: a TPM 1.2 keeps no keys by handle.
func (c *Chip) ReadHandle(uint32) (blob.Key, error) {
	return nil, fmt.Errorf("%w: a TPM 1.2 keeps no keys by handle; give a key file", chip.ErrNotSupported)
}

// takeOwnership implements Change. Part 3, section 6.1 (TPM_TakeOwnership).
func (c *Chip) takeOwnership(with *chip.Secrets) error {
	ek, err := c.endorsementKey()
	if err != nil {
		return c.explain(err, nil)
	}
	encOwner, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, ek, with.Owner, []byte(OAEPLabel))
	if err != nil {
		return err
	}
	encSRK, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, ek, with.Parent, []byte(OAEPLabel))
	if err != nil {
		return err
	}
	err = c.conn.TakeOwnership(secretOf(with.Owner), encOwner, encSRK, srkTemplate().Bytes())
	return c.explain(err, nil)
}

// endorsementKey returns the public endorsement key, and makes the key where
// the TPM came without one.
func (c *Chip) endorsementKey() (*rsa.PublicKey, error) {
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
func srkTemplate() *blob.TPMKey {
	return &blob.TPMKey{
		Usage: blob.KeyStorage, AuthDataUsage: blob.AuthAlways,
		EncScheme: blob.ESRSAESOAEPSHA1MGF1, SigScheme: blob.SSNone,
		KeyLength: 2048, NumPrimes: 2,
	}
}

// Random implements chip.Chip. Part 3, section 13.6 (TPM_GetRandom).
func (c *Chip) Random(n int) ([]byte, error) {
	b, err := c.conn.GetRandom(n)
	return b, c.explain(err, nil)
}

// secretOf is a secret as TPM 1.2 has it.
func secretOf(auth chip.AuthData) *tpm12.Secret {
	if auth == nil {
		return nil
	}
	return (*tpm12.Secret)(auth)
}
