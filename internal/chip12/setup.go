package chip12

import (
	"errors"
	"fmt"

	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// State implements chip.Chip.
func (c *Chip) State() (*chip.State, error) {
	flags, err := c.conn.Flags()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	owned, err := c.conn.Owned()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	if err := c.readLockout(); err != nil {
		return nil, c.explain(err, nil)
	}
	s := &chip.State{
		Enabled: !flags.Disabled, Active: !flags.NowDeactivated, ActiveNext: !flags.Deactivated,
		Owned: owned, CanBeOwned: flags.CanBeOwned, SRKReadable: flags.ReadSRKPub,
		NoTries: known(c.lockout) && !c.lockout.Locked && c.lockout.Count == 0,
	}
	switch {
	case !s.Enabled:
		s.Unusable = chip.OfKind(chip.ErrDisabled, "disabled", nil)
	case !s.Active:
		s.Unusable = chip.OfKind(chip.ErrDisabled, "deactivated", nil)
	}
	if c.lockout != nil && c.lockout.Locked {
		s.Locked = chip.LockedOut(c.lockTime())
	}
	return s, nil
}

// Change implements chip.Chip.
func (c *Chip) Change(to chip.Change, with *chip.Secrets) error {
	switch to {
	case chip.Enable, chip.Disable:
		return c.setEnabled(to == chip.Enable, with.Owner)
	case chip.Activate, chip.Deactivate:
		return c.withPresence(func() error { return c.conn.PhysicalSetDeactivated(to == chip.Deactivate) })
	case chip.AllowOwner:
		return c.withPresence(func() error { return c.conn.SetOwnerInstall(true) })
	case chip.TakeOwnership:
		return c.takeOwnership(with)
	case chip.Clear:
		return c.clear(with.Owner)
	}
	return c.resetLockout(with.Owner)
}

func (c *Chip) setEnabled(on bool, owner chip.AuthData) error {
	if owner != nil {
		return c.explain(c.conn.OwnerSetDisable(!on, secretOf(owner)), chip.ErrWrongOwnerSecret)
	}
	if on {
		return c.withPresence(c.conn.PhysicalEnable)
	}
	return c.withPresence(c.conn.PhysicalDisable)
}

func (c *Chip) clear(owner chip.AuthData) error {
	if owner == nil {
		return c.withPresence(c.conn.ForceClear)
	}
	err := c.conn.OwnerClear(secretOf(owner))
	if errors.Is(err, tpm12.ClearDisabled) {
		return fmt.Errorf("the owner has forbidden clearing by secret; physical presence is left: %w", err)
	}
	return c.explain(err, chip.ErrWrongOwnerSecret)
}

// withPresence runs f, a command that needs physical presence. If withPresence has to assert
// presence, it removes it afterwards.
func (c *Chip) withPresence(f func() error) (err error) {
	flags, err := c.conn.Flags()
	if err != nil {
		return c.explain(err, nil)
	}
	undo, err := c.assertPresence(flags)
	if err != nil {
		return err
	}
	err = c.explainPresence(f(), flags)
	if left := undo(); left != nil {
		err = errors.Join(err, fmt.Errorf("remove physical presence, which stays asserted until the TPM restarts: %w", left))
	}
	return err
}

// assertPresence asserts physical presence by command, unless it is asserted already, or only a
// hardware switch can assert it. undo takes the changes back.
func (c *Chip) assertPresence(flags *tpm12.Flags) (undo func() error, err error) {
	byCommand := flags.PresenceByCommand || !flags.PresenceFixed
	switch {
	case flags.Present:
		return func() error { return nil }, nil
	case flags.PresenceLocked && !flags.PresenceByPin:
		return nil, chip.OfKind(chip.ErrPhysicalPresence, "it has been locked since the last start, as most firmware does", nil)
	case !byCommand && !flags.PresenceByPin:
		return nil, chip.OfKind(chip.ErrPhysicalPresence, "this TPM does not accept it by command", nil)
	case flags.PresenceLocked || !byCommand:
		return func() error { return nil }, nil // the switch decides whether f succeeds
	}
	var changes []tpm12.Presence
	undo = func() error {
		for _, p := range changes {
			if err := c.conn.PhysicalPresence(p); err != nil {
				return err
			}
		}
		return nil
	}
	if !flags.PresenceByCommand {
		if err := c.conn.PhysicalPresence(tpm12.PresenceCMDEnable); err != nil {
			return nil, c.explain(err, nil)
		}
		changes = []tpm12.Presence{tpm12.PresenceCMDDisable}
	}
	if err := c.conn.PhysicalPresence(tpm12.PresencePresent); err != nil {
		return nil, errors.Join(c.explain(err, nil), undo())
	}
	changes = append([]tpm12.Presence{tpm12.PresenceNotPresent}, changes...)
	return undo, nil
}

// explainPresence explains the error of a command that needs physical presence.
func (c *Chip) explainPresence(err error, flags *tpm12.Flags) error {
	switch {
	case errors.Is(err, tpm12.BadPresence) && flags.PresenceByPin:
		return chip.OfKind(chip.ErrPhysicalPresence, "TPM_BAD_PRESENCE; this machine has a switch or jumper of its own for it, see its manual", err)
	case errors.Is(err, tpm12.BadPresence):
		return chip.OfKind(chip.ErrPhysicalPresence, "TPM_BAD_PRESENCE", err)
	case errors.Is(err, tpm12.ClearDisabled):
		return chip.OfKind(chip.ErrPhysicalPresence, "TPM_CLEAR_DISABLED; the firmware has forbidden clearing until the next start", err)
	}
	return c.explain(err, nil)
}

func (c *Chip) resetLockout(owner chip.AuthData) error {
	if err := c.readLockout(); err != nil {
		return c.explain(err, nil)
	}
	before := c.lockout
	err := c.conn.ResetLockValue(secretOf(owner))
	if !errors.Is(err, tpm12.AuthFail) {
		return c.explain(err, chip.ErrWrongOwnerSecret)
	}
	if c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Locked && c.lockout.Count == before.Count {
		return chip.OfKind(chip.ErrLockedOut, "TPM_AUTHFAIL; after a wrong owner's secret the TPM does not look at another one before the lock is over"+c.lockTime(), err)
	}
	return c.explain(err, chip.ErrWrongOwnerSecret)
}
