package chip12

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// ClassOf implements chip.Chip. TPM Main Part 2, section 16 (Return codes).
func (c *Chip) ClassOf(err error) chip.ErrClass {
	var code *tpm12.Error
	if class, ok := chip.ClassOfKind(err); ok {
		return class
	}
	switch {
	case errors.As(err, &code):
		return classOfCode(code)
	case errors.Is(err, chip.ErrDecryption), errors.Is(err, tpm12.ErrSessionEnded):
		return chip.ClassRefused
	}
	return chip.ClassOfTransport(err)
}

func classOfCode(err *tpm12.Error) chip.ErrClass {
	switch err.Code {
	case tpm12.NoSpace:
		return chip.ClassNoKeySlot
	case tpm12.Resources:
		if err.Opens() {
			return chip.ClassNoSessionSlot
		}
		return chip.ClassNoKeySlot
	case tpm12.TooManyContexts, tpm12.NoContextSpace, tpm12.ContextGap:
		return chip.ClassTooManySaved
	case tpm12.InvalidResource:
		if err.Saves() {
			return chip.ClassLost
		}
	case tpm12.InvalidKeyHandle, tpm12.InvalidAuthHandle:
		return chip.ClassLost
	case tpm12.AuthFail:
		return chip.ClassAuth
	case tpm12.InvalidPostInit:
		return chip.ClassNotStarted
	}
	return chip.ClassRefused
}

// readLockoutLately calls readLockout unless the count is fresh.
func (c *Chip) readLockoutLately() error {
	if time.Since(c.lockoutRead) > lockoutFresh {
		return c.readLockout()
	}
	return nil
}

// ReadTries implements chip.Chip. It returns no resets, because a TPM 1.2 does not count them.
func (c *Chip) ReadTries(_ blob.Key, ofParent, after bool) (*chip.Tries, error) {
	if after {
		c.lockoutRead = time.Time{}
	}
	if err := c.readLockoutLately(); err != nil {
		return nil, c.explain(err, nil)
	}
	now := &chip.Tries{Counts: true}
	if l := c.lockout; l != nil {
		now.Known, now.Count = l.Known, int(l.Count)
		if l.Locked {
			now.Locked = chip.LockedOut(c.lockTime())
		}
	}
	return now, nil
}

// StartUp implements chip.Chip.
func (c *Chip) StartUp() error { return c.explain(c.conn.Startup(), nil) }

// Sessions implements chip.Chip.
func (c *Chip) Sessions() (open []uint32, more bool) { return c.conn.OwnSessions() }

// EndSessions implements chip.Chip. It ends the rolling session, the only one that belongs to no
// key.
func (c *Chip) EndSessions(how chip.Ending) bool {
	switch how {
	case chip.EndAll:
		c.conn.EndRolling()
		return true
	case chip.Forget:
		c.conn.Forget()
		return true
	}
	return false
}
