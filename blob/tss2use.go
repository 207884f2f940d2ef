package blob

import (
	"cmp"
	"crypto"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// Container implements [Key].
func (t *TSS2) Container() Container { return cmp.Or(t.container, TSS2PEM) }

// PublicKey implements [Key].
func (t *TSS2) PublicKey() crypto.PublicKey {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return nil
	}
	return p.PublicKey()
}

// Unsupported implements [Key]. The error wraps [ErrDamaged] if the public area cannot be parsed.
func (t *TSS2) Unsupported() error {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return err
	}
	return p.Unsupported()
}

// Sealed reports whether the file contains data for TPM2_Unseal instead of a key. Such a file may
// have the object identifier of a loadable key.
func (t *TSS2) Sealed() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Sealed()
}

// Migratable implements [Key]. A key may leave its TPM if it has neither fixedTPM nor fixedParent,
// and has a policy that allows TPM2_Duplicate.
func (t *TSS2) Migratable() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Attributes&(pubarea.AttrFixedTPM|pubarea.AttrFixedParent) == 0 && len(p.AuthPolicy) > 0
}

// key returns the public area of a key that PublicKey returns, unless it is a storage key, or no
// program can use it. A restricted key that signs has a scheme.
func (t *TSS2) key(alg tpm2.TPMAlgID) *pubarea.Area {
	p, err := pubarea.Parse(t.Public)
	switch {
	case err != nil || p.Unsupported() != nil || p.Alg != alg || p.Useless():
		return nil
	case p.Has(pubarea.AttrRestricted) && (p.Has(pubarea.AttrDecrypt) || p.Scheme.Alg == tpm2.TPMAlgNull):
		return nil
	}
	return p
}

// Restricted reports whether the key has the attribute restricted. It then signs no digests, but
// messages that its TPM hashes, if it signs at all; or it is a storage key, the parent of others.
//
// TPM 2.0 Library Part 2, section 8.3.3 (TPMA_OBJECT)
func (t *TSS2) Restricted() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Has(pubarea.AttrRestricted)
}

// CountsTries reports whether the TPM counts wrong secrets of the key: it does not have the attribute
// noDA.
//
// TPM 2.0 Library Part 2, section 8.3.3 (TPMA_OBJECT)
func (t *TSS2) CountsTries() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && !p.Has(pubarea.AttrNoDA)
}

// CanSign implements [Key]. It is true for an RSA key that decrypts any input, because signing is
// the same operation.
//
// TPM 2.0 Library Part 3, sections 20.2 (TPM2_Sign) and 14.3 (TPM2_RSA_Decrypt)
func (t *TSS2) CanSign() bool {
	if p := t.key(tpm2.TPMAlgECC); p != nil {
		ecdsa := p.Scheme.Alg == tpm2.TPMAlgNull || p.Scheme.Alg == tpm2.TPMAlgECDSA
		return p.Has(pubarea.AttrSign) && !p.Has(pubarea.AttrX509Sign) && ecdsa
	}
	p := t.key(tpm2.TPMAlgRSA)
	if p == nil {
		return false
	}
	switch p.Scheme.Alg {
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS:
		return p.Has(pubarea.AttrSign) && !p.Has(pubarea.AttrX509Sign)
	case tpm2.TPMAlgNull:
		return p.Has(pubarea.AttrSign) && !p.Has(pubarea.AttrX509Sign) || p.Has(pubarea.AttrDecrypt)
	}
	return false
}

// CanDecrypt implements [Key]. An EC key cannot.
//
// TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt)
func (t *TSS2) CanDecrypt() bool {
	p := t.key(tpm2.TPMAlgRSA)
	if p == nil || !p.Has(pubarea.AttrDecrypt) {
		return false
	}
	return p.Scheme.Alg == tpm2.TPMAlgNull || p.Scheme.Alg == tpm2.TPMAlgRSAES || p.Scheme.Alg == tpm2.TPMAlgOAEP
}

// CanAgree implements [Key]. Only an EC key can.
//
// TPM 2.0 Library Part 3, section 14.5 (TPM2_ECDH_ZGen)
func (t *TSS2) CanAgree() bool {
	p := t.key(tpm2.TPMAlgECC)
	if p == nil || !p.Has(pubarea.AttrDecrypt) {
		return false
	}
	return p.Scheme.Alg == tpm2.TPMAlgNull || p.Scheme.Alg == tpm2.TPMAlgECDH
}

// NeedsSecret implements [Key]. It trusts the file first. A key that only a policy controls needs a
// secret if a command of the policy asks for one. Nobody knows beforehand which signed policy will
// be used, so one that asks is enough. PolicySecret asks for the secret of another object, and the
// user is asked for it in the same way.
//
// draft-bottomley-tpm2-keys, sections 4.3 and 5.2 (Authorization Policy)
func (t *TSS2) NeedsSecret() bool {
	if t.EmptyAuth {
		return false
	}
	p, err := pubarea.Parse(t.Public)
	if err != nil || !t.ByPolicy && (p.Has(pubarea.AttrUserWithAuth) || len(p.AuthPolicy) == 0 || len(t.Policy) == 0) {
		return true
	}
	if asksSecret(t.Policy) {
		return true
	}
	for _, signed := range t.AuthPolicy {
		if asksSecret(signed.Policy) {
			return true
		}
	}
	return false
}

func asksSecret(policy []PolicyCommand) bool {
	for _, c := range policy {
		switch tpm2.TPMCC(c.Code) {
		case tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPassword, tpm2.TPMCCPolicySecret:
			return true
		}
	}
	return false
}
