package tpmkey

import (
	"errors"
	"fmt"

	"maclef/internal/tpm12"
)

func (c *chip12) setupState() (*setupState, error) {
	flags, err := c.conn.Flags()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	owned, err := c.conn.Owned()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	return &setupState{
		enabled: !flags.Disabled, active: !flags.NowDeactivated, activeNext: !flags.Deactivated,
		owned: owned, canBeOwned: flags.CanBeOwned,
	}, nil
}

func (c *chip12) setEnabled(on bool, owner authData) error {
	if owner != nil {
		return c.explain(c.conn.OwnerSetDisable(!on, secret12(owner)), ErrWrongOwnerSecret)
	}
	if on {
		return c.present(c.conn.PhysicalEnable)
	}
	return c.present(c.conn.PhysicalDisable)
}

func (c *chip12) setActive(on bool) error {
	return c.present(func() error { return c.conn.PhysicalSetDeactivated(!on) })
}

func (c *chip12) allowOwner() error {
	return c.present(func() error { return c.conn.SetOwnerInstall(true) })
}

func (c *chip12) clear(owner authData) error {
	if owner == nil {
		return c.present(c.conn.ForceClear)
	}
	err := c.conn.OwnerClear(secret12(owner))
	if errors.Is(err, tpm12.ClearDisabled) {
		return fmt.Errorf("the owner has forbidden clearing by secret; physical presence is left (tpmctl clear -force): %w", err)
	}
	return c.explain(err, ErrWrongOwnerSecret)
}

// present runs f, a command that needs physical presence. Presence that it has to
// assert itself it takes back.
func (c *chip12) present(f func() error) (err error) {
	flags, err := c.conn.Flags()
	if err != nil {
		return c.explain(err, nil)
	}
	leave, err := c.assertPresence(flags)
	if err != nil {
		return err
	}
	err = c.explainPresence(f(), flags)
	if left := leave(); left != nil {
		err = errors.Join(err, fmt.Errorf("take physical presence back, which stays asserted until the TPM restarts: %w", left))
	}
	return err
}

// assertPresence asserts physical presence by command, unless it is asserted
// already or only the machine's own switch can do so. leave puts back what it
// changed.
func (c *chip12) assertPresence(flags *tpm12.Flags) (leave func() error, err error) {
	byCommand := flags.PresenceByCommand || !flags.PresenceFixed
	switch {
	case flags.Present:
		return func() error { return nil }, nil
	case flags.PresenceLocked && !flags.PresenceByPin:
		return nil, &refusal{ErrPhysicalPresence, "it has been locked since the last start, as most firmware does", nil}
	case !byCommand && !flags.PresenceByPin:
		return nil, &refusal{ErrPhysicalPresence, "this TPM never takes it by command", nil}
	case flags.PresenceLocked || !byCommand:
		return func() error { return nil }, nil // f finds out how the switch is
	}
	var undo []tpm12.Presence
	leave = func() error {
		for _, p := range undo {
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
		undo = []tpm12.Presence{tpm12.PresenceCMDDisable}
	}
	if err := c.conn.PhysicalPresence(tpm12.PresencePresent); err != nil {
		return nil, errors.Join(c.explain(err, nil), leave())
	}
	undo = append([]tpm12.Presence{tpm12.PresenceNotPresent}, undo...)
	return leave, nil
}

// explainPresence explains why a command failed that needs physical presence.
func (c *chip12) explainPresence(err error, flags *tpm12.Flags) error {
	switch {
	case errors.Is(err, tpm12.BadPresence) && flags.PresenceByPin:
		return &refusal{ErrPhysicalPresence, "TPM_BAD_PRESENCE; this machine has a switch or jumper of its own for it, see its manual", err}
	case errors.Is(err, tpm12.BadPresence):
		return &refusal{ErrPhysicalPresence, "TPM_BAD_PRESENCE", err}
	case errors.Is(err, tpm12.ClearDisabled):
		return &refusal{ErrPhysicalPresence, "TPM_CLEAR_DISABLED; the firmware has forbidden clearing until the next start", err}
	}
	return c.explain(err, nil)
}

// checkLockout refuses while the TPM is known to be locked: a try would be wasted.
func (c *chip12) checkLockout() error {
	if err := c.readLockout(); err != nil {
		return c.explain(err, nil)
	}
	if c.lockout != nil && c.lockout.Locked {
		return &refusal{ErrLockedOut, "no secret was tried" + c.lockTime(), nil}
	}
	return nil
}

func (c *chip12) lockoutClean() (bool, error) {
	if err := c.readLockout(); err != nil {
		return false, c.explain(err, nil)
	}
	return known(c.lockout) && !c.lockout.Locked && c.lockout.Count == 0, nil
}

func (c *chip12) resetLockout(owner authData) error {
	if err := c.readLockout(); err != nil {
		return c.explain(err, nil)
	}
	before := c.lockout
	err := c.conn.ResetLockValue(secret12(owner))
	if !errors.Is(err, tpm12.AuthFail) {
		return c.explain(err, ErrWrongOwnerSecret)
	}
	if c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Locked && c.lockout.Count == before.Count {
		return &refusal{ErrLockedOut, "TPM_AUTHFAIL; after a wrong owner's secret the TPM does not look at another one before the lock is over" + c.lockTime(), err}
	}
	return c.explain(err, ErrWrongOwnerSecret)
}
