package chip20

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// Errors for what only a TPM 1.2 has.
var (
	errNoSetup = fmt.Errorf("%w: a TPM 2.0 is not enabled, disabled or activated by a program; the firmware's (BIOS) menu switches it on and off", chip.ErrNotSupported)
	errNoOwner = fmt.Errorf("%w: a TPM 2.0 needs no owner for keys to be made", chip.ErrNotSupported)
)

// lockoutAuthSet is the bit of TPMA_PERMANENT that says that the lockout hierarchy has a secret.
// TPM 2.0 Library Part 2, section 8.6 (TPMA_PERMANENT).
const lockoutAuthSet = 1 << 2

// State implements chip.Chip. Locked is nil, because a TPM does not report whether its lockout
// hierarchy is locked.
func (c *Chip) State() (*chip.State, error) {
	now, err := c.readPermanent()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	on := now[tpm2.TPMPTStartupClear]&shEnable != 0
	s := &chip.State{
		Enabled: on, Active: on, ActiveNext: on, Owned: true, SRKReadable: true,
		NoSecret: now[tpm2.TPMPTPermanent]&lockoutAuthSet == 0,
		NoTries:  !c.lockout.locked && c.lockout.count == 0,
	}
	if !on {
		s.Unusable = chip.OfKind(chip.ErrDisabled, "its storage hierarchy is switched off until it restarts; see the firmware's (BIOS) menu", nil)
	}
	return s, nil
}

// Change implements chip.Chip.
func (c *Chip) Change(to chip.Change, with *chip.Secrets) error {
	switch to {
	case chip.Clear:
		return c.clear(with.Owner)
	case chip.ResetLockout:
		return c.resetLockout(with.Owner)
	case chip.TakeOwnership:
		return errNoOwner
	}
	return errNoSetup
}

// clear is authorized by the lockout hierarchy. Only the firmware can use the platform hierarchy.
// TPM 2.0 Library Part 3, section 24.6 (TPM2_Clear).
func (c *Chip) clear(lockout chip.AuthData) error {
	if lockout == nil {
		return chip.OfKind(chip.ErrPhysicalPresence, "only the firmware clears a TPM 2.0 without its lockout secret", nil)
	}
	err := c.withLockoutAuth(lockout, (*tpm20.Session).ForClear, func(auth tpm2.Session) error {
		_, err := tpm20.Run(c.conn, tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: auth}})
		return err
	})
	if err == nil { // TPM2_Clear changes the seeds, and so all primary keys
		c.conn.EndSessions()
		c.EndSessions(chip.Forget)
		clear(c.parents)
		clear(c.foundParents)
		clear(c.imported)
	}
	if errors.Is(err, tpm2.TPMRCDisabled) {
		return fmt.Errorf("clearing by secret has been forbidden (TPM2_ClearControl); the firmware's (BIOS) menu is left: %w", err)
	}
	return err
}

// authSession returns s for use with an auth value.
func authSession(s *tpm20.Session, auth []byte) tpm2.Session { return s.For(auth, 0) }

// withLockoutAuth calls f with an authorization for the lockout hierarchy. A secret is sent in a
// session salted to a primary key of the null hierarchy. A wrong secret locks the lockout
// hierarchy, by default for a day.
func (c *Chip) withLockoutAuth(lockout chip.AuthData, session func(*tpm20.Session, []byte) tpm2.Session, f func(auth tpm2.Session) error) error {
	if len(lockout) == 0 {
		return c.explainLockout(f(tpm2.PasswordAuth(nil)))
	}
	return c.explainLockout(c.withSaltKey(nullParent, func(salt *tpm20.Object) error {
		s, err := c.startSession(salt)
		if err != nil {
			return err
		}
		return f(session(s, lockout))
	}))
}

func (c *Chip) explainLockout(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		return chip.OfKind(chip.ErrLockedOut, "TPM_RC_LOCKOUT; after a wrong lockout secret the TPM does not look at another one"+c.lockoutTime(), err)
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return chip.OfKind(chip.ErrWrongLockoutSecret, "TPM_RC_AUTH_FAIL; the TPM does not look at another one"+c.lockoutTime(), err)
	}
	return c.explain(err, nil)
}

// lockoutTime returns a text that says how long the lockout hierarchy stays locked after a wrong
// secret.
func (c *Chip) lockoutTime() string {
	switch {
	case c.readLockout() != nil:
		return " for a while"
	case c.lockout.lockoutRecovery == 0:
		return " before it restarts"
	}
	return fmt.Sprintf(" for %v", c.lockout.lockoutRecovery)
}

// resetLockout resets the count. TPM 2.0 Library Part 3, section 25.2
// (TPM2_DictionaryAttackLockReset).
func (c *Chip) resetLockout(lockout chip.AuthData) error {
	return c.withLockoutAuth(lockout, authSession, c.conn.ResetLockout)
}
