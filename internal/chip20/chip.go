// Package chip20 implements chip.Chip for TPM 2.0. Citations are of the TPM 2.0 Library
// Specification.
package chip20

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/contextcache"
	"maclef/internal/pubarea"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
)

// A Chip is a TPM 2.0.
type Chip struct {
	conn *tpm20.Conn
	can  *features

	// lockout is what the TPM said of wrong secrets when it was asked last; uncounted
	// says that it does not count those of the key in question.
	lockout   lockout
	uncounted bool

	// parents are those that were in the TPM before, fitting the one that a file turned
	// out to mean. imported are the private parts of keys that were imported, by the
	// digest of what they were made from.
	cache    *contextcache.Cache
	note     func(text string) // is told before something that may take long
	parents  map[parentID]*knownParent
	fitting  map[fileParent]parentID
	imported map[[sha256.Size]byte][]byte

	session  *tpm20.Session                      // serves all keys; nil if there never was one
	policies map[tpm2.TPMIAlgHash]*tpm20.Session // run all policies, one for each hash algorithm
}

// Open reads what a TPM 2.0 can do, and waits as long for one that is busy with itself.
// Contexts of primary keys are kept in cache, which may be nil; note, which may be nil, is
// told in a sentence before something that may take long.
func Open(dev *transport.Device, patience time.Duration, cache *contextcache.Cache, note func(text string)) (*Chip, error) {
	if note == nil {
		note = func(string) {}
	}
	c := &Chip{
		conn: tpm20.New(dev), cache: cache, note: note,
		parents: map[parentID]*knownParent{}, fitting: map[fileParent]parentID{}, imported: map[[sha256.Size]byte][]byte{},
	}
	c.conn.Patience = patience
	err := c.readFeatures()
	if c.ClassOf(err) == chip.ClassNotStarted {
		if err = c.StartUp(); err == nil {
			err = c.readFeatures()
		}
	}
	if err != nil {
		if failed, _ := c.conn.InFailureMode(); failed { // then its answers mean nothing
			return nil, chip.OfKind(chip.ErrFailed, "TPM_RC_FAILURE; restart the machine; if that does not help the chip is broken. A software TPM fails when its disk is full", err)
		}
		return nil, c.explain(err, nil)
	}
	return c, nil
}

// Generation is chip.TPM20.
func (c *Chip) Generation() chip.Generation { return chip.TPM20 }

// A lockout is the state of the defence against guessing.
type lockout struct {
	locked        bool
	told          bool // that it would be switched off, when it was last
	count, limit  uint32
	recovery      time.Duration // until one wrong secret is forgotten
	lockoutAuthed time.Duration // after a wrong lockout secret
}

// readLockout asks for the count of wrong secrets. It costs no try. TPM 2.0 Library
// Part 1, section 19.8 (Dictionary Attack Protection).
func (c *Chip) readLockout() error {
	_, err := c.readPermanent()
	return err
}

// readPermanent reads the properties among which it is.
func (c *Chip) readPermanent() (properties, error) {
	now, err := c.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		return nil, err
	}
	c.lockout = lockout{
		locked:        now[tpm2.TPMPTPermanent]&inLockout != 0,
		told:          now[tpm2.TPMPTStartupClear]&orderly != 0,
		count:         now[tpm2.TPMPTLockoutCounter],
		limit:         now[tpm2.TPMPTMaxAuthFail],
		recovery:      time.Duration(now[tpm2.TPMPTLockoutInterval]) * time.Second,
		lockoutAuthed: time.Duration(now[tpm2.TPMPTLockoutRecovery]) * time.Second,
	}
	return now, nil
}

// readTries reads the count of wrong secrets, and of resets: a TPM that is switched off
// without having been told counts one, too. TPM 2.0 Library Part 3, section 29.1
// (TPM2_ReadClock).
func (c *Chip) ReadTries(file blob.Key, ofParent, after bool) (*chip.Tries, error) {
	t := file.(*blob.TSS2)
	counts := c.countsKey(t)
	if ofParent {
		var err error
		if counts, err = c.countsParent(t); err != nil {
			return nil, err
		}
	}
	c.uncounted = !counts
	if !counts {
		return new(chip.Tries), nil
	}
	// A reset between the two commands shall not look like a wrong secret.
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
		Resets: int(clock.CurrentTime.ClockInfo.ResetCount), Announced: c.lockout.told,
	}
	if c.lockout.locked {
		now.Locked = c.lockedOut()
	}
	return now, nil
}

// countsKey reports whether wrong secrets of a key are counted.
func (c *Chip) countsKey(t *blob.TSS2) bool {
	area := pubarea.TPMT(t.Public)
	return area != nil && !area.ObjectAttributes.NoDA
}

// countsParent reports whether those of its parent are: a hierarchy's are not.
func (c *Chip) countsParent(t *blob.TSS2) (bool, error) {
	id := c.likelyParent(t)
	if isHierarchy(uint32(id.handle)) {
		return false, nil
	}
	parent, err := c.readParent(id)
	if err != nil {
		return false, err
	}
	return !parent.Public.ObjectAttributes.NoDA, nil
}

func (c *Chip) lockedOut() error {
	return chip.OfKind(chip.ErrLockedOut, "no secret was tried"+c.lockTime(), nil)
}

// triesUsed says, after a wrong secret, how many the TPM has counted.
func (c *Chip) triesUsed() string {
	if c.uncounted {
		return ", which the TPM does not count"
	}
	if c.readLockout() != nil {
		return ""
	}
	return fmt.Sprintf(", %d of %d tries used", c.lockout.count, c.lockout.limit)
}

// lockTime says how long the TPM stays locked.
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

// ownSessions is how many sessions are in the TPM that belong to no key.
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

// Flush implements chip.Chip. A key that the TPM keeps stays. TPM 2.0 Library Part 3,
// section 28.4 (TPM2_FlushContext).
func (c *Chip) Flush(_ chip.Kind, handle uint32) error {
	if handle >= uint32(persistentFirst) {
		return nil
	}
	return c.explain(c.conn.Flush(tpm2.TPMHandle(handle)), nil)
}
