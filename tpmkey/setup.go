package tpmkey

import (
	"context"
	"fmt"
	"maclef/internal/chip"
)

// A Result is the result of a change of the TPM's state.
type Result struct {
	// Changed is false if the TPM was in the requested state already.
	Changed bool
	// RestartNeeded means that the change takes effect at the TPM's next start.
	RestartNeeded bool
}

// Enable enables the TPM immediately. Before keys can be used, it also needs Activate and
// TakeOwnership.
//
// Errors: ErrPhysicalPresence; ErrNotOwned, ErrWrongOwnerSecret (a try was spent)
// and ErrLockedOut with the owner's secret. TPM Main Part 3, sections 5.2
// (TPM_OwnerSetDisable) and 5.3 (TPM_PhysicalEnable).
func (t *TPM) Enable(ctx context.Context, by Authority) (Result, error) {
	return t.setEnabled(ctx, "enable the TPM", true, by)
}

// Disable disables the TPM immediately: no key can be used until it is enabled. Errors are those
// of Enable. TPM Main Part 3, sections 5.2 (TPM_OwnerSetDisable) and 5.4 (TPM_PhysicalDisable).
func (t *TPM) Disable(ctx context.Context, by Authority) (Result, error) {
	return t.setEnabled(ctx, "disable the TPM", false, by)
}

func (t *TPM) setEnabled(ctx context.Context, doing string, on bool, by Authority) (Result, error) {
	to := chip.Disable
	if on {
		to = chip.Enable
	}
	return t.change(ctx, doing, to, by, func(s *chip.State) (bool, error) { return s.Enabled == on, nil })
}

// Activate activates the TPM from its next start on. It needs physical presence; TPM 1.2 has no
// other authorization for it.
//
// Errors: ErrDisabled, because only an enabled TPM can be activated; ErrPhysicalPresence. TPM
// Main Part 3, section 5.5 (TPM_PhysicalSetDeactivated).
func (t *TPM) Activate(ctx context.Context) (Result, error) {
	var was *chip.State
	result, err := t.change(ctx, "activate the TPM", chip.Activate, PhysicalPresence(), func(s *chip.State) (bool, error) {
		was = s
		if !s.Enabled {
			return false, chip.OfKind(ErrDisabled, "only an enabled TPM can be activated", nil)
		}
		return s.ActiveNext, nil
	})
	result.RestartNeeded = err == nil && !was.Active
	return result, err
}

// Deactivate deactivates the TPM from its next start on. It needs physical presence. Errors:
// ErrDisabled, ErrPhysicalPresence. TPM Main Part 3, section 5.5 (TPM_PhysicalSetDeactivated).
func (t *TPM) Deactivate(ctx context.Context) (Result, error) {
	result, err := t.change(ctx, "deactivate the TPM", chip.Deactivate, PhysicalPresence(), func(s *chip.State) (bool, error) {
		if s.ActiveNext && !s.Enabled {
			return false, chip.OfKind(ErrDisabled, "only an enabled TPM can be deactivated", nil)
		}
		return !s.ActiveNext, nil
	})
	result.RestartNeeded = result.Changed
	return result, err
}

// AllowOwner allows TakeOwnership. It needs physical presence. Errors: ErrDisabled,
// ErrPhysicalPresence. TPM Main Part 3, section 5.1 (TPM_SetOwnerInstall).
func (t *TPM) AllowOwner(ctx context.Context) (Result, error) {
	return t.change(ctx, "allow an owner", chip.AllowOwner, PhysicalPresence(), func(s *chip.State) (bool, error) {
		if s.Owned || s.CanBeOwned {
			return true, nil
		}
		return false, s.Unusable
	})
}

// Clear removes the owner and the storage root key. This cannot be undone: all key files of the
// TPM and all data sealed to it become useless, and all loaded keys, including those of other
// programs, are lost. A TPM without an owner is not changed. A TPM 1.2 is disabled afterwards
// and, from its next start on, deactivated. A TPM 2.0 needs the lockout hierarchy's secret, and
// can be used for new keys at once.
//
// confirm, which may be nil, is called before a secret is asked for and before anything is
// cleared, but not if Clear would fail or change nothing anyway. If confirm returns an error,
// Clear returns it.
//
// Errors: ErrDisabled, because only an enabled, active TPM can be cleared; those of Enable. TPM
// Main Part 3, sections 6.2 (TPM_OwnerClear) and 6.3 (TPM_ForceClear); TPM 2.0 Library Part 3,
// section 24.6 (TPM2_Clear).
func (t *TPM) Clear(ctx context.Context, by Authority, confirm func() error) (Result, error) {
	s, is, err := t.checkChange(ctx, by, cleared)
	if err != nil || is {
		return Result{}, doingError(doingClear, err)
	}
	if confirm != nil {
		if err := confirm(); err != nil {
			return Result{}, err
		}
	}
	return t.changeBy(ctx, doingClear, chip.Clear, by, s)
}

const doingClear = "clear the TPM"

func cleared(s *chip.State) (bool, error) {
	if !s.Owned {
		return true, nil
	}
	return false, s.Unusable
}

// ResetLockout resets the TPM's count of wrong secrets, and ends a lockout. Result.Changed is
// false if the count was 0, as far as the TPM reports it.
//
// Errors: ErrWrongOwnerSecret, after which the TPM may refuse the right secret, too, until the
// lockout is over; ErrNotOwned; ErrDisabled; ErrNotSupported for physical presence. A TPM 2.0
// needs the lockout hierarchy's secret. TPM Main Part 3, section 9.3 (TPM_ResetLockValue); TPM
// 2.0 Library Part 3, section 25.2 (TPM2_DictionaryAttackLockReset).
func (t *TPM) ResetLockout(ctx context.Context, by Authority) (Result, error) {
	const doing = "reset the lockout"
	if by.presence {
		return Result{}, fmt.Errorf("%s: %w: it takes the owner's secret", doing, ErrNotSupported)
	}
	var s *chip.State
	err := t.run(ctx, func() (err error) {
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
		return Result{}, doingError(doing, err)
	}
	return t.changeBy(ctx, doing, chip.ResetLockout, by, s)
}

// change makes a change if it is needed. done returns whether the TPM is in the requested state
// already, or an error if the change is impossible. The user is asked for a secret after that,
// outside the TPM's turn.
func (t *TPM) change(ctx context.Context, doing string, to chip.Change, by Authority, done func(*chip.State) (bool, error)) (Result, error) {
	s, is, err := t.checkChange(ctx, by, done)
	if err != nil || is {
		return Result{}, doingError(doing, err)
	}
	return t.changeBy(ctx, doing, to, by, s)
}

// checkChange reads the state and returns whether the TPM is in the requested state already, or
// an error if the change is impossible. It needs no secret.
func (t *TPM) checkChange(ctx context.Context, by Authority, done func(*chip.State) (bool, error)) (s *chip.State, is bool, err error) {
	err = t.run(ctx, func() (err error) {
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

func (t *TPM) changeBy(ctx context.Context, doing string, to chip.Change, by Authority, s *chip.State) (Result, error) {
	owner, err := by.resolve(t, s)
	if err == nil {
		defer clear(owner)
		err = chip.MarkDefaultSecret(t.changeOnce(ctx, to, &chip.Secrets{Owner: owner}), owner)
	}
	return Result{Changed: err == nil}, doingError(doing, err)
}

func (t *TPM) changeOnce(ctx context.Context, to chip.Change, with *chip.Secrets) error {
	return t.m.RunOnce(ctx, func() error {
		if to == chip.Clear || to == chip.TakeOwnership {
			t.m.ForgetParents()
		}
		return t.chip().Change(to, with)
	})
}
