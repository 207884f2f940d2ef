package chip20

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// A loadedParent is a parent that is loaded.
type loadedParent struct {
	*tpm20.Object
	chip   *Chip
	id     parentID
	secret chip.AuthData // of a persistent parent; nil for a primary key of a hierarchy, which has none
}

// auth returns the session that authorizes a command on the parent, as loadedKey.auth does.
func (p *loadedParent) auth(command tpm2.TPMCC, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	rules, err := policyOfParent(p.Object)
	switch {
	case err != nil:
		return nil, nil, err
	case rules != nil:
		return p.chip.runPolicy(rules, p.id, command, p.secret, enc)
	case len(p.secret) == 0 && enc == 0:
		return nil, nil, nil
	}
	s, err := p.session()
	if err != nil {
		return nil, nil, err
	}
	return s.For(p.secret, enc), nil, nil
}

// session returns the shared session. A persistent parent takes no slot, so it can be loaded
// twice; a primary key is used to salt the session at once.
func (p *loadedParent) session() (*tpm20.Session, error) {
	if isHierarchy(uint32(p.id.handle)) {
		return p.chip.startSession(p.Object)
	}
	return p.chip.sharedSession(p.id)
}

// checkParentLockout returns an ErrLockedOut if the TPM would not check a parent's secret.
func (c *Chip) checkParentLockout(parent *tpm20.Object, srk chip.AuthData) error {
	if len(srk) == 0 || !countsSecretOf(parent.Public) {
		return nil
	}
	if err := c.readLockout(); err != nil {
		return c.explain(err, nil)
	}
	if c.lockout.locked {
		return chip.LockedOut(c.lockTime())
	}
	return nil
}

// parentPolicies are the policies of parents that this program knows. Endorsement keys have the
// first. TCG EK Credential Profile, section B.3.3 (Template L-1).
var parentPolicies = []blob.PolicyCommand{
	policy.HierarchySecret(tpm2.TPMRHEndorsement), policy.HierarchySecret(tpm2.TPMRHOwner),
	policy.HierarchySecret(tpm2.TPMRHPlatform), policy.HierarchySecret(tpm2.TPMRHNull), policy.AuthValue(),
}

// policyOfParent returns the policy that authorizes the use of a parent, nil if its secret does.
// A parent's public area has only the policy's digest.
func policyOfParent(parent *tpm20.Object) (*policy.Policy, error) {
	area := parent.Public
	if area.ObjectAttributes.UserWithAuth {
		return nil, nil
	}
	for _, command := range parentPolicies {
		commands := []blob.PolicyCommand{command}
		digest, err := policy.Digest(area.NameAlg, commands)
		if err == nil && bytes.Equal(digest, area.AuthPolicy.Buffer) {
			return policy.New(area.NameAlg, digest, commands, nil)
		}
	}
	return nil, chip.OfKind(chip.ErrNotSupported, fmt.Sprintf(
		"the key at %#x can be a parent only by its policy, whose digest is %x, and the steps of that are not known; use another parent", uint32(parent.Handle), area.AuthPolicy.Buffer), nil)
}

// countsSecretOf reports whether the TPM counts wrong secrets for the use of a parent. It counts
// none of a hierarchy.
func countsSecretOf(area *tpm2.TPMTPublic) bool {
	if area.ObjectAttributes.NoDA {
		return false
	}
	own, err := policy.Digest(area.NameAlg, []blob.PolicyCommand{policy.AuthValue()})
	return area.ObjectAttributes.UserWithAuth || err == nil && bytes.Equal(own, area.AuthPolicy.Buffer)
}

// CheckParentSecret implements chip.Chip.
func (c *Chip) CheckParentSecret(handle uint32, movable bool) error {
	id := newKeyParent(handle)
	if isHierarchy(uint32(id.handle)) {
		return nil
	}
	parent, err := c.readParent(id)
	if err != nil || movable || parent.Public.ObjectAttributes.FixedTPM {
		return err
	}
	return chip.OfKind(chip.ErrMovableParent, fmt.Sprintf(
		"the key at %#x has no fixedTPM, so somebody may have a copy of it, and all keys under it; its secret was not used", uint32(id.handle)), nil)
}

// isStorageKey reports whether other keys can be under a key. TPM 2.0 Library Part 1, section 23.2
// (Storage Parents).
func isStorageKey(area *tpm2.TPMTPublic) bool {
	a := area.ObjectAttributes
	return area.Type != tpm2.TPMAlgKeyedHash && a.Restricted && a.Decrypt && !a.SignEncrypt
}

// canSalt reports whether a session can be salted to a persistent parent: only this TPM has its
// private key. The one of a parent without fixedTPM may be known elsewhere.
func canSalt(area *tpm2.TPMTPublic) bool {
	return area.ObjectAttributes.FixedTPM && (area.Type == tpm2.TPMAlgRSA || area.Type == tpm2.TPMAlgECC)
}
