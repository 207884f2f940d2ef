package tpmkey

import (
	"context"
	"errors"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// condition tells what an error of the TPM, or of the way to it, means for what is
// loaded there. TPM Main Part 2, section 16 (Return codes).
func (c *chip12) condition(err error) condition {
	var refusal *tpm12.Error
	switch {
	case err == nil:
		return fine
	case errors.As(err, &refusal):
		return conditionOf(refusal)
	case errors.Is(err, errDecryption), errors.Is(err, tpm12.ErrSessionEnded):
		return refused
	case errors.Is(err, ErrClosed), errors.Is(err, ErrBusy), errors.Is(err, ErrNoTPM), errors.Is(err, ErrPermission),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable
	case errors.Is(err, transport.ErrNotSent):
		return notSent
	}
	return noReply
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
	case tpm12.InvalidKeyHandle, tpm12.InvalidResource:
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

func (c *chip12) checkTry() error {
	if err := c.readLockoutLately(); err != nil {
		return c.explain(err, nil)
	}
	if c.lockout != nil && c.lockout.Locked {
		return &refusal{ErrLockedOut, "no secret was tried" + c.lockTime(), nil}
	}
	c.lockoutRead = time.Time{} // what is tried next may change it
	return nil
}

func (c *chip12) startUp() error { return c.explain(c.conn.Startup(), nil) }
func (c *chip12) holds() bool    { return c.conn.Holds() || c.lost != nil }
func (c *chip12) endSessions()   { c.conn.EndSessions() }

func (c *chip12) forget() {
	c.conn.Forget()
	c.before, c.lost = nil, nil
	c.lockoutRead = time.Time{}
}
