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
	if err := t.takeOwnership(owner, srk); err != nil {
		return fmt.Errorf("take ownership: %w", err)
	}
	return nil
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
