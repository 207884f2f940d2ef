package tpmkey

import "fmt"

// A setupState is how far a TPM is from being usable.
type setupState struct {
	enabled    bool
	active     bool // since the last start
	activeNext bool // from the next start on
	owned      bool
	canBeOwned bool
	// secretless says that nobody has set the secret that changing it takes.
	secretless bool
}

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
	return t.change(doing, by, &setting{
		done: func(s *setupState) (bool, error) { return s.enabled == on, nil },
		set:  func(owner authData) error { return t.chip.setEnabled(on, owner) },
	})
}

// Activate has the TPM be active from its next start on, by physical presence:
// TPM 1.2 knows no other right. It reports whether it changed that.
//
// Errors: ErrRestartNeeded where the TPM is deactivated until it starts anew,
// which is no failure; ErrDisabled, because only an enabled TPM can be activated;
// ErrPhysicalPresence. TPM Main Part 3, section 5.5 (TPM_PhysicalSetDeactivated).
func (t *TPM) Activate() (changed bool, err error) {
	const doing = "activate the TPM"
	var was *setupState
	changed, err = t.change(doing, PhysicalPresence(), &setting{
		done: func(s *setupState) (bool, error) {
			was = s
			if !s.enabled {
				return false, &refusal{ErrDisabled, "only an enabled TPM can be activated; enable it first, with tpmctl enable", nil}
			}
			return s.activeNext, nil
		},
		set: func(authData) error { return t.chip.setActive(true) },
	})
	if err == nil && !was.active {
		err = fmt.Errorf("%s: %w", doing, &refusal{ErrRestartNeeded, "it is active only from its next start on", nil})
	}
	return changed, err
}

// Deactivate has the TPM be deactivated from its next start on, by physical
// presence, and reports whether it changed that. Until then it works. Errors:
// ErrDisabled, ErrPhysicalPresence. TPM Main Part 3, section 5.5
// (TPM_PhysicalSetDeactivated).
func (t *TPM) Deactivate() (changed bool, err error) {
	return t.change("deactivate the TPM", PhysicalPresence(), &setting{
		done: func(s *setupState) (bool, error) {
			if s.activeNext && !s.enabled {
				return false, &refusal{ErrDisabled, "only an enabled TPM can be deactivated; enable it first, with tpmctl enable", nil}
			}
			return !s.activeNext, nil
		},
		set: func(authData) error { return t.chip.setActive(false) },
	})
}

// AllowOwner lets a TPM be owned where that was forbidden, by physical presence,
// and reports whether it was. Errors: ErrDisabled, ErrPhysicalPresence. TPM Main
// Part 3, section 5.1 (TPM_SetOwnerInstall).
func (t *TPM) AllowOwner() (changed bool, err error) {
	return t.change("allow an owner", PhysicalPresence(), &setting{
		done: func(s *setupState) (bool, error) {
			if s.owned || s.canBeOwned {
				return true, nil
			}
			return false, s.ready()
		},
		set: func(authData) error { return t.chip.allowOwner() },
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
	return t.change(doingClear, by, t.clearing())
}

// CheckClear refuses what Clear would refuse without asking for a secret or trying
// one, for programs that have somebody confirm it in between.
func (t *TPM) CheckClear(by Authority) error {
	_, _, err := t.checkChange(by, t.clearing())
	return doingError(doingClear, err)
}

const doingClear = "clear the TPM"

func (t *TPM) clearing() *setting {
	return &setting{
		done: func(s *setupState) (bool, error) {
			if !s.owned {
				return true, nil
			}
			return false, s.ready()
		},
		set: func(owner authData) error {
			t.proved, t.refused = nil, nil // they are of what is gone then
			t.contexts.cache.Empty()
			return t.chip.clear(owner)
		},
	}
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
	var nothing bool
	var s *setupState
	err = t.simply(func() (err error) {
		s, err = t.chip.setupState()
		if err == nil {
			err = s.ready()
		}
		if err == nil && !s.owned {
			err = &refusal{ErrNotOwned, "so nobody can reset it", nil}
		}
		if err == nil && by.owner.IsZero() {
			err = errNoAuthority
		}
		if err == nil {
			nothing, err = t.chip.lockoutClean()
		}
		return err
	})
	if err != nil || nothing {
		return false, doingError(doing, err)
	}
	auth, err := by.resolve(t.chip.generation(), s)
	if err != nil {
		return false, doingError(doing, err)
	}
	defer clear(auth)
	err = t.finally(func() error { return t.chip.resetLockout(auth) })
	return err == nil, doingError(doing, err)
}

// A setting is a change of a TPM's state.
type setting struct {
	// done reports that nothing is left to do, or refuses.
	done func(*setupState) (bool, error)
	// set does it, for the owner's secret, or for physical presence where that
	// is nil. It runs in a turn.
	set func(owner authData) error
}

// change makes a setting and reports whether it had to be made. A secret is asked
// for only then, and outside the TPM's turn.
func (t *TPM) change(doing string, by Authority, to *setting) (bool, error) {
	s, done, err := t.checkChange(by, to)
	if err != nil || done {
		return false, doingError(doing, err)
	}
	owner, err := by.resolve(t.chip.generation(), s)
	if err != nil {
		return false, doingError(doing, err)
	}
	defer clear(owner)
	err = t.finally(func() error { return to.set(owner) })
	return err == nil, doingError(doing, err)
}

// checkChange reports the state, and whether nothing is left to do, or refuses,
// without a secret.
func (t *TPM) checkChange(by Authority, to *setting) (s *setupState, done bool, err error) {
	err = t.simply(func() (err error) {
		if s, err = t.chip.setupState(); err != nil {
			return err
		}
		if done, err = to.done(s); err != nil || done {
			return err
		}
		return by.check(t.chip, s)
	})
	return s, done, err
}

func doingError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ready is nil for a TPM that takes commands of every kind.
func (s *setupState) ready() error {
	switch {
	case !s.enabled:
		return &refusal{ErrDisabled, "disabled" + switchOnCure, nil}
	case !s.active:
		return &refusal{ErrDisabled, "deactivated" + switchOnCure, nil}
	}
	return nil
}
