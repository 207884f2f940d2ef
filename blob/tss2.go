package blob

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"

	"github.com/google/go-tpm/tpm2"
)

// TSS2 is what a key file of a TPM 2.0 says, and what it lacks.
//
// draft-bottomley-tpm2-keys, section 3 (Key Format)
type TSS2 struct {
	Type        TSS2Type
	EmptyAuth   bool            // no password is needed
	Policy      []PolicyCommand // must be run before the key is used, in this order
	Secret      []byte          // TPM2B_ENCRYPTED_SECRET; importable keys only
	AuthPolicy  []AuthPolicy    // signed policies, any of which PolicyAuthorize takes
	Description string
	RSAParent   bool   // the primary of Parent is RSA (template H-1), not ECC (H-2)
	Parent      uint32 // a persistent handle (0x81…) or a hierarchy (0x40…)
	Public      []byte // TPM2B_PUBLIC
	Private     []byte // TPM2B_PRIVATE, of importable keys the duplicate

	// Handle is that of a key that the TPM itself keeps, 0 for others. Such a key has
	// no file, no parent and no private part.
	Handle uint32
}

// TSS2Type is what a key file of a TPM 2.0 holds.
type TSS2Type int

// The kinds of files, by their object identifiers 2.23.133.10.1.3 to .5.
const (
	TSS2Loadable TSS2Type = iota
	TSS2Importable
	TSS2Sealed
)

// A PolicyCommand is a command of a policy: its code, and its parameters as they go
// over the wire, without the handle of the session.
type PolicyCommand struct {
	Code   tpm2.TPMCC
	Policy []byte
}

// An AuthPolicy is a policy that somebody signed.
type AuthPolicy struct {
	Name   string
	Policy []PolicyCommand
}

// Area returns the public area, a new value each time; nil where Parse would refuse
// it.
func (t *TSS2) Area() *tpm2.TPMTPublic {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](t.Public)
	if err != nil {
		return nil
	}
	area, err := public.Contents()
	if err != nil {
		return nil
	}
	return area
}

func (t *TSS2) publicKey() crypto.PublicKey {
	area := t.Area()
	if area == nil {
		return nil
	}
	public, err := tpm2.Pub(*area)
	if err != nil {
		return nil
	}
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return public
	}
	return nil
}

func (t *TSS2) needsSecret() bool { return !t.EmptyAuth }

func (t *TSS2) canSign() bool {
	area := t.Area()
	return area != nil && area.ObjectAttributes.SignEncrypt && !area.ObjectAttributes.Restricted
}

func (t *TSS2) canDecrypt() bool {
	area := t.Area()
	return area != nil && area.Type == tpm2.TPMAlgRSA && area.ObjectAttributes.Decrypt && !area.ObjectAttributes.Restricted
}

// canAgree reports whether the key can do a Diffie-Hellman key agreement.
func (t *TSS2) canAgree() bool {
	area := t.Area()
	return area != nil && area.Type == tpm2.TPMAlgECC && area.ObjectAttributes.Decrypt && !area.ObjectAttributes.Restricted
}

// CanAgree reports whether the key can agree on a secret with another key (ECDH).
func (k *Key) CanAgree() bool { return k.TSS2 != nil && k.TSS2.canAgree() }
