package tpmkey

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
)

// classOf tells what an error of the TPM, or of the way to it, means for what is
// loaded there. TPM Main Part 2, section 16 (Return codes).
func (c *chip12) classOf(err error) errClass {
	var code *tpm12.Error
	if class, ok := classOfRefusal(err); ok {
		return class
	}
	switch {
	case errors.As(err, &code):
		return classOf12(code)
	case errors.Is(err, errDecryption), errors.Is(err, tpm12.ErrSessionEnded):
		return classRefused
	}
	return classOfWay(err)
}

func classOf12(err *tpm12.Error) errClass {
	switch err.Code {
	case tpm12.NoSpace:
		return classKeyRoom
	case tpm12.Resources:
		if err.Opens() {
			return classSessionRoom
		}
		return classKeyRoom
	case tpm12.TooManyContexts, tpm12.NoContextSpace, tpm12.ContextGap:
		return classSavedRoom
	case tpm12.InvalidResource:
		if err.Saves() {
			return classLost
		}
	case tpm12.InvalidKeyHandle, tpm12.InvalidAuthHandle:
		return classLost
	case tpm12.AuthFail:
		return classAuth
	case tpm12.InvalidPostInit:
		return classNotStarted
	}
	return classRefused
}

func (c *chip12) triedSecret(err error) bool {
	var unanswered *tpm12.Unanswered
	return !errors.As(err, &unanswered) || unanswered.Secret
}

// readLockoutLately reads the count of wrong secrets unless that was done a moment
// ago.
func (c *chip12) readLockoutLately() error {
	if time.Since(c.lockoutRead) > lockoutFresh {
		return c.readLockout()
	}
	return nil
}

// readTries counts no resets: a TPM 1.2 does not take them for wrong secrets.
func (c *chip12) readTries(_ *blob.Key, ofParent, after bool) (*tries, error) {
	if after {
		c.lockoutRead = time.Time{}
	}
	if err := c.readLockoutLately(); err != nil {
		return nil, c.explain(err, nil)
	}
	now := &tries{counts: true}
	if l := c.lockout; l != nil {
		now.known, now.locked, now.count = l.Known, l.Locked, int(l.Count)
	}
	return now, nil
}

func (c *chip12) lockedOut() error {
	return &refusal{ErrLockedOut, "no secret was tried" + c.lockTime(), nil}
}

func (c *chip12) startUp() error           { return c.explain(c.conn.Startup(), nil) }
func (c *chip12) holds() bool              { return c.conn.Holds() }
func (c *chip12) owns(session uint32) bool { return c.conn.Owns(session) }
func (c *chip12) endSessions()             { c.conn.EndRolling() }

func (c *chip12) forget() { c.conn.Forget() }
