// Package chip12 implements chip.Chip for TPM 1.2.
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
	// lockout is the state of the dictionary-attack defence when it was last read, nil if the TPM
	// does not report it.
	lockout     *tpm12.DAInfo
	lockoutRead time.Time
}

// Open opens dev if it is a TPM 1.2; for a TPM 2.0 the error is tpm12.ErrTPM20. patience is how
// long commands are repeated while the TPM is busy.
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
	if err != nil && !transient(err) { // the next command reads it again
		return nil, c.explain(err, nil)
	}
	return c, nil
}

// setUpEmulator prepares a software TPM with a new state directory: it takes ownership with
// well-known secrets. swtpm has enabled and activated the TPM. An earlier process may have been
// killed after any of these steps.
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

// readLockout reads the count of wrong secrets. It costs no try. It returns nil if the TPM does
// not have this capability. It returns an error if the TPM is busy, because no secret may be
// tried while the count is unknown.
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

// transient reports whether the TPM refused a command only because it is not ready yet.
func transient(err error) bool {
	return errors.Is(err, tpm12.Retry) || errors.Is(err, tpm12.NeedsSelfTest) || errors.Is(err, tpm12.DoingSelfTest)
}

// lockoutFresh is the maximum age of a count that is compared with the one after a secret was
// tried. So opening a TPM and loading a key read it once. A try by another process in this time
// does no harm, and TPMs decrease the count only after minutes.
const lockoutFresh = time.Second

// Generation implements chip.Chip.
func (c *Chip) Generation() chip.Generation { return chip.TPM12 }

// Use implements chip.Chip.
func (c *Chip) Use(file blob.Key) (*chip.KeyOps, error) {
	switch k := file.(type) {
	case *blob.TPMSealed:
		return sealedOps(k), nil
	case *blob.TPMKey:
		if !k.CanSign() && !k.CanDecrypt() {
			return nil, fmt.Errorf("%w: a %v key (encryption %v, signature %v) can neither sign nor decrypt",
				chip.ErrNotSupported, k.Usage, k.EncScheme, k.SigScheme)
		}
		return OpsOf(k), nil
	}
	return nil, chip.OfKind(chip.ErrWrongGeneration, "the file is for a TPM 2.0, and this is a TPM 1.2", nil)
}

// keyOf returns the key that is loaded for a file, and whether it is for sealed data.
func keyOf(file blob.Key) (k *blob.TPMKey, sealed bool) {
	if s, ok := file.(*blob.TPMSealed); ok {
		return s.Key, true
	}
	return file.(*blob.TPMKey), false
}

// CheckParentSecret implements chip.Chip: the only parent is the SRK.
func (c *Chip) CheckParentSecret(uint32, bool) error { return nil }

// Prepare does nothing: a session can be opened while the key is loaded.
func (c *Chip) Prepare(blob.Key, bool) error { return nil }

// ReadHandle returns an error: a TPM 1.2 has no persistent handles for keys.
func (c *Chip) ReadHandle(uint32) (blob.Key, error) {
	return nil, fmt.Errorf("%w: a TPM 1.2 keeps no keys by handle; give a key file", chip.ErrNotSupported)
}

// takeOwnership takes ownership. TPM Main Part 3, section 6.1 (TPM_TakeOwnership).
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

// endorsementKey returns the public endorsement key. It creates the key if the TPM has none.
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

// srkTemplate returns the parameters of the SRK, of which TPM_TakeOwnership allows no others.
func srkTemplate() *blob.TPMKey {
	return &blob.TPMKey{
		Usage: blob.KeyStorage, AuthDataUsage: blob.AuthAlways,
		EncScheme: blob.ESRSAESOAEPSHA1MGF1, SigScheme: blob.SSNone,
		KeyLength: 2048, NumPrimes: 2,
	}
}

// Random implements chip.Chip. TPM Main Part 3, section 13.6 (TPM_GetRandom).
func (c *Chip) Random(n int) ([]byte, error) {
	b, err := c.conn.GetRandom(n)
	return b, c.explain(err, nil)
}

// secretOf converts a secret to the type of package tpm12.
func secretOf(auth chip.AuthData) *tpm12.Secret {
	if auth == nil {
		return nil
	}
	return (*tpm12.Secret)(auth)
}
