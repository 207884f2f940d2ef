package tpmkey

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
)

// A chip20 is a TPM 2.0.
type chip20 struct {
	dev  *transport.Device
	conn *tpm20.Conn
	can  *chipAbilities20

	// lockout is what the TPM said of wrong secrets when it was asked last.
	lockout     lockout20
	lockoutRead time.Time
	// beforeTry is the same before a key's secret was tried first, in epoch; uncounted
	// says that the TPM does not count wrong secrets of that key.
	beforeTry lockout20
	epoch     uint64
	uncounted bool

	// parents are those that were in the TPM before, fitting the one that a file turned
	// out to mean. imported are the private parts of keys that were imported, by the
	// digest of what they were made from.
	parents  map[parentID]*parent20
	fitting  map[fileParent]parentID
	imported map[[sha256.Size]byte][]byte
	names    map[string]bool // of keys that were to be loaded

	session  *tpm20.Session                      // serves all keys; nil if there never was one
	policies map[tpm2.TPMIAlgHash]*tpm20.Session // run all policies, one for each hash algorithm
	bound    map[*tpm20.Session]struct{}         // the keys' own

	// lost are keys that may be in the TPM without anybody knowing the handle;
	// lostSession says that a session may be.
	lost        []*blob.Key
	lostSession bool
}

func newChip20(dev *transport.Device, patience time.Duration) (chip, error) {
	c := &chip20{
		dev: dev, conn: tpm20.New(dev),
		parents: map[parentID]*parent20{}, fitting: map[fileParent]parentID{}, imported: map[[sha256.Size]byte][]byte{}, names: map[string]bool{},
		bound: map[*tpm20.Session]struct{}{},
	}
	c.conn.Patience = patience
	c.conn.Claims = dev
	err := c.readAbilities()
	if c.condition(err) == notStarted {
		if err = c.startUp(); err == nil {
			err = c.readAbilities()
		}
	}
	if cond := c.condition(err); cond == noReply || cond == notSent {
		err = c.readAbilities()
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
	count, limit  uint32
	recovery      time.Duration // until one wrong secret is forgotten
	lockoutAuthed time.Duration // after a wrong lockout secret
}

// readLockout asks for the count of wrong secrets. It costs no try. TPM 2.0 Library
// Part 1, section 19.8 (Dictionary Attack Protection).
func (c *chip20) readLockout() error {
	now, err := c.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		c.lockoutRead = time.Time{}
		return err
	}
	c.lockout = lockout20{
		locked:        now[tpm2.TPMPTPermanent]&inLockout != 0,
		count:         now[tpm2.TPMPTLockoutCounter],
		limit:         now[tpm2.TPMPTMaxAuthFail],
		recovery:      time.Duration(now[tpm2.TPMPTLockoutInterval]) * time.Second,
		lockoutAuthed: time.Duration(now[tpm2.TPMPTLockoutRecovery]) * time.Second,
	}
	c.lockoutRead = time.Now()
	return nil
}

// checkTry does not mind a lockout for a key that is not subject to it. Whether a parent
// is shows when it is there.
func (c *chip20) checkTry(k *blob.Key) error {
	if c.foreignSession() {
		c.renew()
	}
	if k == nil {
		return nil
	}
	area := k.TSS2.Area()
	return c.checkCounted(area != nil && !area.ObjectAttributes.NoDA)
}

// checkCounted is checkTry for a secret of which the TPM counts wrong ones, or not.
func (c *chip20) checkCounted(counts bool) error {
	c.uncounted = !counts
	if !counts {
		return nil
	}
	if time.Since(c.lockoutRead) > lockoutFresh {
		if err := c.readLockout(); err != nil {
			return c.explain(err, nil)
		}
	}
	if c.lockout.locked {
		return &refusal{ErrLockedOut, "no secret was tried" + c.lockTime(), nil}
	}
	c.lockoutRead = time.Time{} // what is tried next may change it
	c.beforeTry = c.lockout
	epoch, err := c.dev.Connected()
	c.epoch = epoch
	return err
}

// counted compares with the count before the try, in the same epoch. Another
// process's wrong secret can make a right one look wrong; that is the better mistake.
func (c *chip20) counted() verdict {
	if c.uncounted {
		return wasNot // trying again does no harm
	}
	if c.readLockout() != nil {
		return unknown
	}
	epoch, err := c.dev.Connected()
	switch {
	case c.lockout.count > c.beforeTry.count:
		return wasWrong
	case c.lockout.count == c.beforeTry.count && err == nil && epoch == c.epoch:
		return wasNot
	}
	return unknown
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

// wasReset reads the TPM's clock, which counts from its reset. TPM 2.0 Library Part 3,
// section 29.1 (TPM2_ReadClock).
func (c *chip20) wasReset(within time.Duration) (bool, error) {
	rsp, err := tpm20.Run(c.conn, tpm2.ReadClock{})
	if err != nil {
		if c.condition(err) == notStarted {
			return true, nil
		}
		return false, c.explain(err, nil)
	}
	return time.Duration(rsp.CurrentTime.Time)*time.Millisecond < within, nil
}

func (c *chip20) startUp() error                     { return c.explain(c.conn.Startup(), nil) }
func (c *chip20) holds() bool                        { return c.conn.Holds() || c.lostSession }
func (c *chip20) owns(kind byte, handle uint32) bool { return c.conn.Owns(kind, handle) }

func (c *chip20) endSessions() {
	c.conn.EndSessions(slices.Collect(maps.Keys(c.bound))...)
}

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
	for _, p := range c.parents {
		p.context = nil
	}
	c.session, c.policies, c.lost, c.lostSession = nil, nil, nil, false
	c.lockoutRead = time.Time{}
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

// foreignSession reports whether another program says that the session that takes secrets
// is its: then it has been flushed, and one of the other's has its handle.
func (c *chip20) foreignSession() bool {
	return c.session.Alive() && !c.dev.Managed() && c.dev.Foreign(transport.ClaimSession, uint32(c.session.Handle()))
}

func (c *chip20) renew() {
	c.conn.Renew()
	c.session, c.policies = nil, nil
}
