package tpmkey

import (
	"context"
	"fmt"
	"maclef/internal/chip"
)

// Enable enables the TPM, at once, and reports whether it was disabled. What a
// TPM needs besides is Activate and TakeOwnership.
//
// Errors: ErrPhysicalPresence; ErrNotOwned, ErrWrongOwnerSecret (a try was spent)
// and ErrLockedOut with the owner's secret. TPM Main Part 3, sections 5.2
// (TPM_OwnerSetDisable) and 5.3 (TPM_PhysicalEnable).
func (t *TPM) Enable(by Authority) (changed bool, err error) {
	return t.setEnabled("enable the TPM", true, by)
}

// Disable disables the TPM, at once: no key can be used until it is enabled. It
// reports whether it was enabled. Errors are those of Enable. TPM Main Part 3,
// sections 5.2 (TPM_OwnerSetDisable) and 5.4 (TPM_PhysicalDisable).
func (t *TPM) Disable(by Authority) (changed bool, err error) {
	return t.setEnabled("disable the TPM", false, by)
}

func (t *TPM) setEnabled(doing string, on bool, by Authority) (bool, error) {
	to := chip.Disable
	if on {
		to = chip.Enable
	}
	return t.change(doing, to, by, func(s *chip.State) (bool, error) { return s.Enabled == on, nil })
}

// Activate has the TPM be active from its next start on, by physical presence:
// TPM 1.2 knows no other right. It reports whether it changed that.
//
// Errors: ErrRestartNeeded where the TPM is deactivated until it starts anew,
// which is no failure; ErrDisabled, because only an enabled TPM can be activated;
// ErrPhysicalPresence. TPM Main Part 3, section 5.5 (TPM_PhysicalSetDeactivated).
func (t *TPM) Activate() (changed bool, err error) {
	const doing = "activate the TPM"
	var was *chip.State
	changed, err = t.change(doing, chip.Activate, PhysicalPresence(), func(s *chip.State) (bool, error) {
		was = s
		if !s.Enabled {
			return false, chip.OfKind(ErrDisabled, "only an enabled TPM can be activated", nil)
		}
		return s.ActiveNext, nil
	})
	if err == nil && !was.Active {
		err = fmt.Errorf("%s: %w", doing, chip.OfKind(ErrRestartNeeded, "it is active only from its next start on", nil))
	}
	return changed, err
}

// Deactivate has the TPM be deactivated from its next start on, by physical
// presence, and reports whether it changed that. Until then it works. Errors:
// ErrDisabled, ErrPhysicalPresence. TPM Main Part 3, section 5.5
// (TPM_PhysicalSetDeactivated).
func (t *TPM) Deactivate() (changed bool, err error) {
	return t.change("deactivate the TPM", chip.Deactivate, PhysicalPresence(), func(s *chip.State) (bool, error) {
		if s.ActiveNext && !s.Enabled {
			return false, chip.OfKind(ErrDisabled, "only an enabled TPM can be deactivated", nil)
		}
		return !s.ActiveNext, nil
	})
}

// AllowOwner lets a TPM be owned where that was forbidden, by physical presence,
// and reports whether it was. Errors: ErrDisabled, ErrPhysicalPresence. TPM Main
// Part 3, section 5.1 (TPM_SetOwnerInstall).
func (t *TPM) AllowOwner() (changed bool, err error) {
	return t.change("allow an owner", chip.AllowOwner, PhysicalPresence(), func(s *chip.State) (bool, error) {
		if s.Owned || s.CanBeOwned {
			return true, nil
		}
		return false, s.Unusable
	})
}

// Clear removes the owner and the storage root key, without remedy: every key
// file of the TPM and all data sealed to it become useless, and keys that are
// loaded, by this program or others, are lost. A TPM 1.2 is disabled afterwards and,
// from its next start on, deactivated; Clear reports whether there was an owner, and where
// not, it does nothing. For a TPM 2.0 it takes the lockout hierarchy's secret; the TPM is
// ready for new keys at once.
//
// Errors: ErrDisabled, because only an enabled, active TPM can be cleared; those
// of Enable. TPM Main Part 3, sections 6.2 (TPM_OwnerClear) and 6.3
// (TPM_ForceClear); TPM 2.0 Library Part 3, section 24.6 (TPM2_Clear).
func (t *TPM) Clear(by Authority) (changed bool, err error) {
	return t.change(doingClear, chip.Clear, by, cleared)
}

// CheckClear refuses what Clear would refuse without asking for a secret or trying
// one, for programs that have somebody confirm it in between.
func (t *TPM) CheckClear(by Authority) error {
	_, _, err := t.checkChange(by, cleared)
	return doingError(doingClear, err)
}

const doingClear = "clear the TPM"

func cleared(s *chip.State) (bool, error) {
	if !s.Owned {
		return true, nil
	}
	return false, s.Unusable
}

// ResetLockout forgets the wrong secrets that the TPM has counted, and ends a
// lockout; it works during one. It reports whether there was anything to forget,
// as far as the TPM tells.
//
// Errors: ErrWrongOwnerSecret, after which the TPM may refuse the right secret,
// too, until the lockout is over; ErrNotOwned; ErrDisabled; ErrNotSupported for
// physical presence, which a TPM 1.2 does not take for it. TPM Main Part 3,
// section 9.3 (TPM_ResetLockValue). For a TPM 2.0 it takes the lockout hierarchy's secret:
// TPM 2.0 Library Part 3, section 25.2 (TPM2_DictionaryAttackLockReset).
func (t *TPM) ResetLockout(by Authority) (changed bool, err error) {
	const doing = "reset the lockout"
	if by.presence {
		return false, fmt.Errorf("%s: %w: it takes the owner's secret", doing, ErrNotSupported)
	}
	var s *chip.State
	err = t.run(func() (err error) {
		if s, err = t.chip().State(); err != nil {
			return err
		}
		switch {
		case s.Unusable != nil:
			return s.Unusable
		case !s.Owned:
			return chip.OfKind(ErrNotOwned, "so nobody can reset it", nil)
		case by.owner.IsZero():
			return errNoAuthority
		}
		return nil
	})
	if err != nil || s.NoTries {
		return false, doingError(doing, err)
	}
	return t.changeBy(doing, chip.ResetLockout, by, s)
}

// change makes a change and reports whether it had to be made. done reports that nothing
// is left to do, or refuses. A secret is asked for only then, and outside the TPM's turn.
func (t *TPM) change(doing string, to chip.Change, by Authority, done func(*chip.State) (bool, error)) (bool, error) {
	s, is, err := t.checkChange(by, done)
	if err != nil || is {
		return false, doingError(doing, err)
	}
	return t.changeBy(doing, to, by, s)
}

// checkChange reports the state, and whether nothing is left to do, or refuses,
// without a secret.
func (t *TPM) checkChange(by Authority, done func(*chip.State) (bool, error)) (s *chip.State, is bool, err error) {
	err = t.run(func() (err error) {
		if s, err = t.chip().State(); err != nil {
			return err
		}
		if is, err = done(s); err != nil || is {
			return err
		}
		return by.check(s)
	})
	return s, is, err
}

func (t *TPM) changeBy(doing string, to chip.Change, by Authority, s *chip.State) (bool, error) {
	owner, err := by.resolve(t, s)
	if err == nil {
		defer clear(owner)
		err = t.changeOnce(to, &chip.Secrets{Owner: owner})
	}
	return err == nil, doingError(doing, err)
}

func (t *TPM) changeOnce(to chip.Change, with *chip.Secrets) error {
	return t.m.RunOnce(context.Background(), func() error {
		if to == chip.Clear || to == chip.TakeOwnership {
			t.m.ForgetParents()
		}
		return t.chip().Change(to, with)
	})
}

// doingError says what was being done.
func doingError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
