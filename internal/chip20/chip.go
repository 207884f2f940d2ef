// Package chip20 implements chip.Chip for TPM 2.0.
package chip20

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/contextcache"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
)

// A Chip is a TPM 2.0.
type Chip struct {
	conn *tpm20.Conn
	can  *features

	// lockout is the state of the dictionary-attack protection when it was last read.
	lockout lockout

	// parents are the parents that were used before. foundParents has the parent that was found for
	// what a file says about its parent. imported has the private areas of imported keys, by a
	// digest of what was imported.
	cache        *contextcache.Cache
	note         func(text string) // is called before something that may take long
	parents      map[parentID]*knownParent
	foundParents map[fileParent]parentID
	imported     map[[sha256.Size]byte][]byte

	session  *tpm20.Session                      // authorizes with any key; nil if it was never started
	policies map[tpm2.TPMIAlgHash]*tpm20.Session // one policy session for each hash algorithm
}

// Open reads the TPM's features. patience is how long commands are repeated while the TPM is
// busy. Contexts of primary keys are stored in cache, which may be nil. note, which may be nil,
// is called with a sentence before something that may take long.
func Open(dev *transport.Device, patience time.Duration, cache *contextcache.Cache, note func(text string)) (*Chip, error) {
	if note == nil {
		note = func(string) {}
	}
	c := &Chip{
		conn: tpm20.New(dev), cache: cache, note: note,
		parents: map[parentID]*knownParent{}, foundParents: map[fileParent]parentID{}, imported: map[[sha256.Size]byte][]byte{},
	}
	c.conn.Patience = patience
	err := c.readFeatures()
	if c.ClassOf(err) == chip.ClassNotStarted {
		if err = c.StartUp(); err == nil {
			err = c.readFeatures()
		}
	}
	if err != nil {
		if failed, _ := c.conn.InFailureMode(); failed { // a TPM in failure mode gives no valid answers
			return nil, chip.OfKind(chip.ErrFailed, "TPM_RC_FAILURE; restart the machine; if that does not help the chip is broken. A software TPM fails when its disk is full", err)
		}
		return nil, c.explain(err, nil)
	}
	return c, nil
}

// Generation implements chip.Chip.
func (c *Chip) Generation() chip.Generation { return chip.TPM20 }

// A lockout is the state of the dictionary-attack protection.
type lockout struct {
	locked          bool
	orderly         bool // the last shutdown was orderly (TPM2_Shutdown)
	count, limit    uint32
	recovery        time.Duration // time until the count decreases by one
	lockoutRecovery time.Duration // how long the lockout hierarchy is locked after a wrong secret
}

// readLockout reads the count of wrong secrets. It costs no try. TPM 2.0 Library Part 1, section
// 19.8 (Dictionary Attack Protection).
func (c *Chip) readLockout() error {
	_, err := c.readPermanent()
	return err
}

// readPermanent reads the properties from TPM_PT_PERMANENT on, and updates lockout.
func (c *Chip) readPermanent() (properties, error) {
	now, err := c.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		return nil, err
	}
	c.lockout = lockout{
		locked:          now[tpm2.TPMPTPermanent]&inLockout != 0,
		orderly:         now[tpm2.TPMPTStartupClear]&orderly != 0,
		count:           now[tpm2.TPMPTLockoutCounter],
		limit:           now[tpm2.TPMPTMaxAuthFail],
		recovery:        time.Duration(now[tpm2.TPMPTLockoutInterval]) * time.Second,
		lockoutRecovery: time.Duration(now[tpm2.TPMPTLockoutRecovery]) * time.Second,
	}
	return now, nil
}

// ReadTries implements chip.Chip. It also reads the count of resets, because a TPM counts a reset
// without an orderly shutdown as a wrong secret. TPM 2.0 Library Part 3, section 29.1
// (TPM2_ReadClock).
func (c *Chip) ReadTries(file blob.Key, ofParent, after bool) (*chip.Tries, error) {
	t := file.(*blob.TSS2)
	counts := t.CountsTries()
	if ofParent {
		var err error
		if counts, err = c.countsParent(t); err != nil {
			return nil, err
		}
	}
	if !counts {
		// What a policy asks for may be the secret of another object, which counts.
		return &chip.Tries{EmptyFree: !ofParent && !needsPolicy(t)}, nil
	}
	// This order prevents that a reset between the two commands looks like a wrong secret.
	var clock *tpm2.ReadClockResponse
	read := []func() error{
		func() (err error) { clock, err = tpm20.Run(c.conn, tpm2.ReadClock{}); return err },
		c.readLockout,
	}
	if after {
		slices.Reverse(read)
	}
	for _, f := range read {
		if err := f(); err != nil {
			return nil, c.explain(err, nil)
		}
	}
	now := &chip.Tries{
		Counts: true, Known: true, Count: int(c.lockout.count),
		Resets: int(clock.CurrentTime.ClockInfo.ResetCount), Announced: c.lockout.orderly,
	}
	if c.lockout.locked {
		now.Locked = chip.LockedOut(c.lockTime())
	}
	return now, nil
}

// countsParent reports whether the TPM counts wrong secrets of the key's parent. It counts none
// of a hierarchy.
func (c *Chip) countsParent(t *blob.TSS2) (bool, error) {
	id := c.likelyParent(t)
	if isHierarchy(uint32(id.handle)) {
		return false, nil
	}
	parent, err := c.readParent(id)
	if err != nil {
		return false, err
	}
	return countsSecretOf(parent.Public), nil
}

// wrongSecret returns the error of a wrong secret, with the TPM's count. It is an ErrLockedOut, too,
// if the secret locked the TPM. TPM 2.0 Library Part 1, section 19.8.2 (the TPM counts after
// TPM_RC_AUTH_FAIL, not after TPM_RC_BAD_AUTH).
func (c *Chip) wrongSecret(kind error, code *tpm20.Error, err error) error {
	detail := code.Name()
	switch {
	case errors.Is(code, tpm2.TPMRCBadAuth):
		detail += ", which the TPM does not count"
	case c.readLockout() == nil:
		detail += fmt.Sprintf(", %d of %d tries used", c.lockout.count, c.lockout.limit)
		if c.lockout.locked {
			return chip.LastTry(kind, detail+secretOfPolicy(err), c.lockTime(), err)
		}
	}
	return chip.OfKind(kind, detail+secretOfPolicy(err), err)
}

// lockTime returns a text that says how long the TPM stays locked.
func (c *Chip) lockTime() string {
	if c.readLockout() != nil || c.lockout.recovery == 0 {
		return "; the lockout secret ends it"
	}
	return fmt.Sprintf("; one try comes back every %v, and the lockout secret ends it at once", c.lockout.recovery)
}

// StartUp implements chip.Chip.
func (c *Chip) StartUp() error { return c.explain(c.conn.Startup(), nil) }

// Sessions implements chip.Chip.
func (c *Chip) Sessions() (open []uint32, more bool) { return c.conn.OwnSessions() }

// EndSessions implements chip.Chip.
func (c *Chip) EndSessions(how chip.Ending) bool {
	switch {
	case how == chip.Forget:
		c.conn.Forget()
		c.session, c.policies = nil, nil
		return true
	case how == chip.EndIfSeveral && c.ownSessions() < 2:
		return false
	}
	c.conn.EndShared()
	return true
}

// ownSessions returns how many sessions are in the TPM that belong to no key.
func (c *Chip) ownSessions() (n int) {
	for _, s := range c.policies {
		if s.Alive() {
			n++
		}
	}
	if c.session.Alive() {
		n++
	}
	return n
}

// Random implements chip.Chip. TPM 2.0 Library Part 3, section 16.1 (TPM2_GetRandom).
func (c *Chip) Random(n int) ([]byte, error) {
	b, err := c.conn.GetRandom(n)
	return b, c.explain(err, nil)
}

// Loaded implements chip.Chip.
func (c *Chip) Loaded(kind chip.Kind) (handles []uint32, err error) {
	first := map[chip.Kind]tpm2.TPMHandle{chip.Keys: transientFirst, chip.Sessions: sessionsFirst, chip.SavedSessions: savedFirst}
	list, err := c.conn.Handles(first[kind])
	for _, h := range list {
		handles = append(handles, uint32(h))
	}
	return handles, c.explain(err, nil)
}

// Flush implements chip.Chip. It keeps a persistent key. TPM 2.0 Library Part 3, section 28.4
// (TPM2_FlushContext).
func (c *Chip) Flush(_ chip.Kind, handle uint32) error {
	if handle >= uint32(persistentFirst) {
		return nil
	}
	return c.explain(c.conn.Flush(tpm2.TPMHandle(handle)), nil)
}
