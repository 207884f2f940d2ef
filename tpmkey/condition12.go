package tpmkey

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
)

// condition tells what an error of the TPM, or of the way to it, means for what is
// loaded there. TPM Main Part 2, section 16 (Return codes).
func (c *chip12) condition(err error) condition {
	var code *tpm12.Error
	var inWords *refusal
	switch {
	case err == nil:
		return fine
	case errors.As(err, &code):
		return conditionOf(code)
	case errors.As(err, &inWords):
		return refused
	case errors.Is(err, errDecryption), errors.Is(err, tpm12.ErrSessionEnded):
		return refused
	}
	return conditionOfWay(err, func() bool {
		var unanswered *tpm12.Unanswered
		return errors.As(err, &unanswered) && unanswered.Secret
	})
}

func conditionOf(err *tpm12.Error) condition {
	switch err.Code {
	case tpm12.NoSpace:
		return noRoomForKey
	case tpm12.Resources:
		if err.Opens() {
			return noRoomForSession
		}
		return noRoomForKey
	case tpm12.InvalidResource:
		if err.Saves() {
			return keyGone
		}
	case tpm12.InvalidKeyHandle:
		return keyGone
	case tpm12.InvalidAuthHandle:
		return sessionGone
	case tpm12.AuthFail:
		if err.Rolled {
			return sessionStale
		}
	case tpm12.InvalidPostInit:
		return notStarted
	}
	return refused
}

// readLockoutLately reads the count of wrong secrets unless that was done a moment
// ago.
func (c *chip12) readLockoutLately() error {
	if time.Since(c.lockoutRead) > lockoutFresh {
		return c.readLockout()
	}
	return nil
}

func (c *chip12) checkTry(*blob.Key) error {
	if err := c.readLockoutLately(); err != nil {
		return c.explain(err, nil)
	}
	if c.lockout != nil && c.lockout.Locked {
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
func (c *chip12) counted() verdict {
	before := c.beforeTry
	if c.readLockout() != nil || !known(before) || !known(c.lockout) {
		return unknown
	}
	epoch, err := c.dev.Connected()
	switch {
	case c.lockout.Count > before.Count:
		return wasWrong
	case c.lockout.Count == before.Count && err == nil && epoch == c.epoch:
		return wasNot
	}
	return unknown
}

func (c *chip12) startUp() error                     { return c.explain(c.conn.Startup(), nil) }
func (c *chip12) holds() bool                        { return c.conn.Holds() || c.lostSession }
func (c *chip12) owns(kind byte, handle uint32) bool { return c.conn.Owns(kind, handle) }
func (c *chip12) endSessions()                       { c.conn.EndRolling() }

func (c *chip12) forget() {
	c.conn.Forget()
	c.before, c.lost, c.lostSession = nil, nil, false
	c.lockoutRead = time.Time{}
}
