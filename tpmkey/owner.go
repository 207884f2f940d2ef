package tpmkey

import (
	"errors"
	"fmt"

	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// TakeOwnership sets the secrets of the owner and of the storage root key
// (SRK), and creates the SRK; it makes the endorsement key too where the TPM
// came without one. It can take minutes on a chip. The zero value of either
// secret stands for the well-known secret.
//
// A TPM that has an owner refuses: an error, and nothing changes. Errors:
// ErrDisabled; see Enable, Activate and AllowOwner. TPM Main Part 3, section 6.1 (TPM_TakeOwnership).
func (t *TPM) TakeOwnership(owner, srk Secret) error {
	return doingError("take ownership", t.takeOwnership(owner, srk))
}

func (t *TPM) takeOwnership(owner, srk Secret) error {
	if t.chip.generation() == tpm20Family {
		return errOwn20
	}
	// Before anybody is asked for secrets.
	err := t.simply(func() error {
		s, err := t.chip.setupState()
		if err != nil {
			return err
		}
		return s.canTakeOwnership()
	})
	if err != nil {
		return err
	}
	ownerAuth, err := owner.orWellKnown().resolveFor(t.chip.generation(), "the new owner's secret")
	if err != nil {
		return err
	}
	defer clear(ownerAuth)
	srkAuth, err := srk.orWellKnown().resolveFor(t.chip.generation(), "the new SRK's secret")
	if err != nil {
		return err
	}
	defer clear(srkAuth)
	return t.finally(func() error {
		t.proved, t.refused = nil, nil // they are of an SRK that is gone
		t.contexts.cache.Empty()
		return t.chip.takeOwnership(ownerAuth, srkAuth)
	})
}

// canTakeOwnership says why a TPM cannot get an owner in its state.
func (s *setupState) canTakeOwnership() error {
	notReady := s.ready()
	switch {
	case s.owned && notReady != nil:
		return fmt.Errorf("the TPM has an owner already, and cannot be used: %w", notReady)
	case s.owned:
		return errors.New("the TPM has an owner already, and its keys work on; to start anew clear it (tpmctl clear), " +
			"which makes every key file of it useless")
	case notReady != nil:
		return notReady
	case !s.canBeOwned:
		return fmt.Errorf("%s: %w", advice12[tpm12.InstallDisabled], tpm12.InstallDisabled)
	}
	return nil
}

// setUpEmulator makes the software TPM of a new state directory one that can be
// used at once: owned, with well-known secrets; swtpm makes it enabled and active.
// A program that was killed on the way may have left any part of it done.
func setUpEmulator(dev *transport.Device, c *chip12) error {
	if !dev.SetupNeeded() {
		return nil
	}
	owned, err := c.conn.Owned()
	if err != nil {
		return err
	}
	if !owned {
		if err := c.takeOwnership(make(authData, 20), make(authData, 20)); err != nil {
			return err
		}
	}
	return dev.SetupDone()
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
func (a Authority) check(c chip, s *setupState) error {
	switch {
	case a.presence:
		return nil
	case a.owner.IsZero():
		return errNoAuthority
	case !s.owned:
		return &refusal{ErrNotOwned, "there is no owner's secret; use physical presence", nil}
	}
	return c.checkLockout()
}

// resolve returns the owner's secret, nil for physical presence. Nobody is asked for
// one that was never set.
func (a Authority) resolve(g generation, s *setupState) (authData, error) {
	switch {
	case a.presence:
		return nil, nil
	case s.secretless:
		return authData{}, nil
	}
	return a.owner.resolveFor(g, "the owner's secret")
}
