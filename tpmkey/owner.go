package tpmkey

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/tpm12"
)

// TakeOwnership sets the secrets of the owner and of the storage root key (SRK), and creates the
// SRK. If the TPM has no endorsement key, it creates that, too. This can take minutes on a
// hardware TPM. The zero value of either secret stands for the well-known secret.
//
// If the TPM has an owner, that is an error, and nothing changes. Errors: ErrDisabled; see
// Enable, Activate and AllowOwner. TPM Main Part 3, section 6.1 (TPM_TakeOwnership).
func (t *TPM) TakeOwnership(ctx context.Context, owner, srk Secret) error {
	return doingError("take ownership", t.takeOwnership(ctx, owner, srk))
}

func (t *TPM) takeOwnership(ctx context.Context, owner, srk Secret) error {
	if t.chip().Generation() == chip.TPM20 {
		return t.chip().Change(chip.TakeOwnership, nil) // returns the error
	}
	// Check the state before the user is asked for secrets.
	err := t.run(ctx, func() error {
		s, err := t.chip().State()
		if err != nil {
			return err
		}
		return canTakeOwnership(s)
	})
	if err != nil {
		return err
	}
	with := new(chip.Secrets)
	defer with.Clear()
	if with.Owner, err = t.resolve(owner.orWellKnown(), "the new owner's secret"); err != nil {
		return err
	}
	if with.Parent, err = t.resolve(srk.orWellKnown(), "the new SRK's secret"); err != nil {
		return err
	}
	return t.changeOnce(ctx, chip.TakeOwnership, with)
}

// canTakeOwnership returns why ownership cannot be taken in this state.
func canTakeOwnership(s *chip.State) error {
	switch {
	case s.Owned && s.Unusable != nil:
		return fmt.Errorf("the TPM has an owner already, and cannot be used: %w", s.Unusable)
	case s.Owned:
		return chip.ErrOwned
	case s.Unusable != nil:
		return s.Unusable
	case !s.CanBeOwned:
		return fmt.Errorf("%s: %w", chip12.Cause(tpm12.InstallDisabled), tpm12.InstallDisabled)
	}
	return nil
}

// An Authority authorizes changes of the TPM's state: the owner's secret (for a TPM 2.0, the
// lockout hierarchy's) or physical presence. The zero value is refused.
type Authority struct {
	owner    Secret
	presence bool
}

// OwnerSecret authorizes with the owner's secret. A wrong secret costs a try.
func OwnerSecret(owner Secret) Authority { return Authority{owner: owner} }

// PhysicalPresence authorizes with physical presence. If the TPM allows that, it is asserted by
// command and removed afterwards. Most firmware locks it before the operating system starts
// (ErrPhysicalPresence).
func PhysicalPresence() Authority { return Authority{presence: true} }

// Format hides the secret from package fmt.
func (a Authority) Format(f fmt.State, _ rune) {
	text := "physical presence"
	if !a.presence {
		text = "owner's secret"
	}
	fmt.Fprint(f, text)
}

// errNoAuthority is the error for the zero Authority.
var errNoAuthority = errors.New("no authority was given: use OwnerSecret or PhysicalPresence")

// check returns an error if the authority cannot be valid in this state, before the user is asked
// for a secret.
func (a Authority) check(s *chip.State) error {
	switch {
	case a.presence:
		return nil
	case a.owner.IsZero():
		return errNoAuthority
	case !s.Owned:
		return chip.OfKind(ErrNotOwned, "there is no owner's secret; use physical presence", nil)
	}
	return s.Locked
}

// resolve returns the owner's secret, nil for physical presence. It does not ask for a secret
// that was never set.
func (a Authority) resolve(t *TPM, s *chip.State) (chip.AuthData, error) {
	switch {
	case a.presence:
		return nil, nil
	case s.NoSecret:
		return chip.AuthData{}, nil
	}
	name := "the owner's secret"
	if t.Family() == "2.0" {
		name = "the lockout hierarchy's secret"
	}
	return t.resolve(a.owner, name)
}
