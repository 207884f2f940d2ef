package tpmkey

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
)

// A chip20 is a TPM 2.0.
type chip20 struct {
	conn *tpm20.Conn
	can  *chipAbilities20

	// lockout is what the TPM said of wrong secrets when it was asked last; uncounted
	// says that it does not count those of the key in question.
	lockout   lockout20
	uncounted bool

	// parents are those that were in the TPM before, fitting the one that a file turned
	// out to mean. imported are the private parts of keys that were imported, by the
	// digest of what they were made from.
	host     host
	parents  map[parentID]*parent20
	fitting  map[fileParent]parentID
	imported map[[sha256.Size]byte][]byte

	session  *tpm20.Session                      // serves all keys; nil if there never was one
	policies map[tpm2.TPMIAlgHash]*tpm20.Session // run all policies, one for each hash algorithm
}

func newChip20(dev *transport.Device, patience time.Duration, around host) (chip, error) {
	c := &chip20{
		conn: tpm20.New(dev), host: around,
		parents: map[parentID]*parent20{}, fitting: map[fileParent]parentID{}, imported: map[[sha256.Size]byte][]byte{},
	}
	c.conn.Patience = patience
	err := c.readAbilities()
	if c.classOf(err) == classNotStarted {
		if err = c.startUp(); err == nil {
			err = c.readAbilities()
		}
	}
	if err != nil {
		if failed, _ := c.conn.InFailureMode(); failed { // then its answers mean nothing
			return nil, &refusal{ErrFailed, "TPM_RC_FAILURE; restart the machine; if that does not help the chip is broken. A software TPM fails when its disk is full", err}
		}
		return nil, c.explain(err, nil)
	}
	return c, nil
}

func (c *chip20) generation() generation { return tpm20Family }

// A lockout20 is the state of the defence against guessing.
type lockout20 struct {
	locked        bool
	told          bool // that it would be switched off, when it was last
	count, limit  uint32
	recovery      time.Duration // until one wrong secret is forgotten
	lockoutAuthed time.Duration // after a wrong lockout secret
}

// readLockout asks for the count of wrong secrets. It costs no try. TPM 2.0 Library
// Part 1, section 19.8 (Dictionary Attack Protection).
func (c *chip20) readLockout() error {
	now, err := c.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		return err
	}
	c.lockout = lockout20{
		locked:        now[tpm2.TPMPTPermanent]&inLockout != 0,
		told:          now[tpm2.TPMPTStartupClear]&orderly != 0,
		count:         now[tpm2.TPMPTLockoutCounter],
		limit:         now[tpm2.TPMPTMaxAuthFail],
		recovery:      time.Duration(now[tpm2.TPMPTLockoutInterval]) * time.Second,
		lockoutAuthed: time.Duration(now[tpm2.TPMPTLockoutRecovery]) * time.Second,
	}
	return nil
}

// readTries reads the count of wrong secrets, and of resets: a TPM that is switched off
// without having been told counts one, too. TPM 2.0 Library Part 3, section 29.1
// (TPM2_ReadClock).
func (c *chip20) readTries(k *blob.Key, ofParent, after bool) (*tries, error) {
	counts := c.countsKey(k.TSS2)
	if ofParent {
		var err error
		if counts, err = c.countsParent(k.TSS2); err != nil {
			return nil, err
		}
	}
	c.uncounted = !counts
	if !counts {
		return &tries{}, nil
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
	return &tries{
		counts: true, known: true, locked: c.lockout.locked,
		count: int(c.lockout.count), resets: int(clock.CurrentTime.ClockInfo.ResetCount), told: c.lockout.told,
	}, nil
}

// countsKey reports whether wrong secrets of a key are counted.
func (c *chip20) countsKey(t *blob.TSS2) bool {
	area := t.Area()
	return area != nil && !area.ObjectAttributes.NoDA
}

// countsParent reports whether those of its parent are: a hierarchy's are not.
func (c *chip20) countsParent(t *blob.TSS2) (bool, error) {
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

func (c *chip20) lockedOut() error {
	return &refusal{ErrLockedOut, "no secret was tried" + c.lockTime(), nil}
}

// triesUsed says, after a wrong secret, how many the TPM has counted.
func (c *chip20) triesUsed() string {
	if c.uncounted {
		return ", which the TPM does not count"
	}
	if c.readLockout() != nil {
		return ""
	}
	return fmt.Sprintf(", %d of %d tries used", c.lockout.count, c.lockout.limit)
}

// lockTime says how long the TPM stays locked.
func (c *chip20) lockTime() string {
	if c.readLockout() != nil || c.lockout.recovery == 0 {
		return "; the lockout secret ends it (tpmctl reset-lockout)"
	}
	return fmt.Sprintf("; one try comes back every %v, and the lockout secret ends it at once (tpmctl reset-lockout)", c.lockout.recovery)
}

// ready refuses where the owner's hierarchy is switched off, under which keys are.
func (c *chip20) ready() error {
	now, err := c.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		return c.explain(err, nil)
	}
	if now[tpm2.TPMPTStartupClear]&shEnable == 0 {
		return &refusal{ErrDisabled, "its storage hierarchy is switched off until it starts anew; see the firmware's (BIOS) menu", nil}
	}
	return nil
}

func (c *chip20) startUp() error           { return c.explain(c.conn.Startup(), nil) }
func (c *chip20) holds() bool              { return c.conn.Holds() }
func (c *chip20) owns(session uint32) bool { return c.conn.Owns(tpm2.TPMHandle(session)) }
func (c *chip20) endSessions()             { c.conn.EndShared() }

func (c *chip20) endShared() bool {
	open := 0
	for _, s := range c.policies {
		if s.Alive() {
			open++
		}
	}
	if c.session.Alive() {
		open++
	}
	if open < 2 {
		return false
	}
	c.endSessions()
	return true
}

func (c *chip20) forget() {
	c.conn.Forget()
	c.session, c.policies = nil, nil
}

func (c *chip20) random(n int) ([]byte, error) {
	b, err := c.conn.GetRandom(n)
	return b, c.explain(err, nil)
}

func (c *chip20) occupants() (keys, sessions []uint32, err error) {
	for _, first := range []tpm2.TPMHandle{transientFirst, sessionsFirst} {
		handles, err := c.conn.Handles(first)
		if err != nil {
			return nil, nil, c.explain(err, nil)
		}
		for _, h := range handles {
			if first == transientFirst {
				keys = append(keys, uint32(h))
			} else {
				sessions = append(sessions, uint32(h))
			}
		}
	}
	return keys, sessions, nil
}

func (c *chip20) flushKey(handle uint32) error {
	return c.explain(c.conn.Flush(tpm2.TPMHandle(handle)), nil)
}

func (c *chip20) flushSession(handle uint32) error {
	return c.explain(c.conn.Flush(tpm2.TPMHandle(handle)), nil)
}

func (c *chip20) saved() ([]uint32, error) {
	handles, err := c.conn.Handles(savedFirst)
	var numbers []uint32
	for _, h := range handles {
		numbers = append(numbers, uint32(h))
	}
	return numbers, c.explain(err, nil)
}

func (c *chip20) flushSaved(number uint32) error { return c.flushSession(number) }
