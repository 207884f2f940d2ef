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

// Unsupported implements [Key]. The error wraps [ErrDamaged] where the public area cannot
// be read.
func (t *TSS2) Unsupported() error {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return err
	}
	return p.Unsupported()
}

// Sealed reports whether the file holds data for TPM2_Unseal, not a key. Files whose
// object identifier says that they hold a loadable key can, too.
func (t *TSS2) Sealed() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Sealed()
}

// Migratable implements [Key]. A key may leave its TPM that has neither fixedTPM nor
// fixedParent, and a policy, if that allows TPM2_Duplicate.
func (t *TSS2) Migratable() bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Attributes&(pubarea.AttrFixedTPM|pubarea.AttrFixedParent) == 0 && len(p.AuthPolicy) > 0
}

// key returns the area of a key that PublicKey gives, and that is not restricted to
// what the TPM itself made.
func (t *TSS2) key(alg tpm2.TPMAlgID) *pubarea.Area {
	p, err := pubarea.Parse(t.Public)
	if err != nil || p.Unsupported() != nil || p.Alg != alg || p.Has(pubarea.AttrRestricted) {
		return nil
	}
	return p
}

// CanSign implements [Key]. An RSA key that decrypts whatever it is given signs, too, as the operation
// is the same.
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

// NeedsSecret implements [Key]. What the file says counts first. A key that only its policy rules needs a
// secret if a command of the policy asks for one; of signed policies nobody knows
// beforehand which will do, so one that asks is enough. PolicySecret asks for the
// secret of another object, which the file's reader is asked for in the same way.
//
// draft-bottomley-tpm2-keys, sections 4.3 and 5.2 (Authorization Policy)
func (t *TSS2) NeedsSecret() bool {
	if t.EmptyAuth {
		return false
	}
	p, err := pubarea.Parse(t.Public)
	if err != nil || p.Has(pubarea.AttrUserWithAuth) || len(p.AuthPolicy) == 0 || len(t.Policy) == 0 {
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
