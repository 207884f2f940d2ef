package tpmkey

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/tpm12"
)

// TakeOwnership sets the secrets of the owner and of the storage root key
// (SRK), and creates the SRK; it makes the endorsement key too where the TPM
// came without one. It can take minutes on a chip. The zero value of either
// secret stands for the well-known secret.
//
// A TPM that has an owner refuses: an error, and nothing changes. Errors:
// ErrDisabled; see Enable, Activate and AllowOwner. TPM Main Part 3, section 6.1 (TPM_TakeOwnership).
func (t *TPM) TakeOwnership(ctx context.Context, owner, srk Secret) error {
	return doingError("take ownership", t.takeOwnership(ctx, owner, srk))
}

func (t *TPM) takeOwnership(ctx context.Context, owner, srk Secret) error {
	if t.chip().Generation() == chip.TPM20 {
		return t.chip().Change(chip.TakeOwnership, nil) // which says why not
	}
	// Before anybody is asked for secrets.
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

// canTakeOwnership says why a TPM cannot get an owner in its state.
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

// An Authority is the right by which a TPM is set up: the owner's secret, for a TPM 2.0
// that of the lockout hierarchy, or physical presence. The zero value is no right at
// all and is refused.
type Authority struct {
	owner    Secret
	presence bool
}

// OwnerSecret is the right of the TPM's owner. A wrong secret costs a try.
func OwnerSecret(owner Secret) Authority { return Authority{owner: owner} }

// PhysicalPresence is the right of whoever is at the machine. Where the TPM takes
// it by command it is asserted for the moment and taken back; most machines'
// firmware locks that before the operating system starts (ErrPhysicalPresence).
func PhysicalPresence() Authority { return Authority{presence: true} }

// Format hides the secret from package fmt.
func (a Authority) Format(f fmt.State, _ rune) {
	text := "physical presence"
	if !a.presence {
		text = "owner's secret"
	}
	fmt.Fprint(f, text)
}

// errNoAuthority is the zero Authority.
var errNoAuthority = errors.New("by whose right? Use OwnerSecret or PhysicalPresence")

// check refuses what cannot be anybody's right in this state, before a secret is
// asked for.
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

// resolve returns the owner's secret, nil for physical presence. Nobody is asked for
// one that was never set.
func (a Authority) resolve(t *TPM, s *chip.State) (chip.AuthData, error) {
	switch {
	case a.presence:
		return nil, nil
	case s.NoSecret:
		return chip.AuthData{}, nil
	}
	return t.resolve(a.owner, "the owner's secret")
}
