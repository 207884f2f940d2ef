package tpmkey

import (
	"errors"
	"fmt"
)

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
