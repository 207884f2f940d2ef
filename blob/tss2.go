package blob

import (
	_ "crypto/sha1" // name algorithms
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// TSS2 is the content of a TPM 2.0 key file.
//
// draft-bottomley-tpm2-keys, section 3 (Key Format)
type TSS2 struct {
	Type        TSS2Type
	EmptyAuth   bool            // the key needs no password; tpm2_encodeobject 5.4 writes the opposite
	Policy      []PolicyCommand // to be run in this order before the key is used
	Secret      []byte          // TPM2B_ENCRYPTED_SECRET; importable keys only, and importable sealed data
	AuthPolicy  []AuthPolicy    // signed policies for PolicyAuthorize; any one will do
	Description string
	RSAParent   bool   // the primary of Parent is RSA (template H-1), not ECC (H-2)
	Parent      uint32 // persistent handle (0x81…) or hierarchy (0x40…)
	Public      []byte // TPM2B_PUBLIC
	Private     []byte // TPM2B_PRIVATE; the duplicate of an importable key

	// Handle is the handle of a persistent key, 0 for others. A persistent key has no parent, and a
	// file only if that stands for the handle: an ESYS object, or a file of tpm2-openssl, which has
	// the handle in place of the private part.
	Handle uint32

	// MovableParent is not in a file: the secret of the parent may be used with a parent that may
	// exist outside of the TPM, too.
	MovableParent bool

	// ByPolicy says that Policy authorizes the key even if its secret alone would do
	// (userWithAuth), and even if Policy has no commands. It is not in files.
	ByPolicy bool

	container Container // 0 if there is none
	der       []byte    // the parsed file, nil if there is none
}

// TSS2Type is the type of a TPM 2.0 key file.
type TSS2Type int

// The types by their object identifiers, 2.23.133.10.1.3 to .5.
const (
	TSS2Loadable TSS2Type = iota
	TSS2Importable
	TSS2Sealed
)

// String returns the name of the type for messages.
func (t TSS2Type) String() string {
	switch t {
	case TSS2Loadable:
		return "loadable key"
	case TSS2Importable:
		return "importable key"
	case TSS2Sealed:
		return "sealed data"
	}
	return fmt.Sprintf("unknown type %d", int(t))
}

// A PolicyCommand is a command of a policy: its code, and its parameters as sent to the TPM,
// without the session handle. In files some commands have another form (draft-bottomley-tpm2-keys,
// sections 4.1.2 and 4.2).
type PolicyCommand struct {
	Code   uint32 // TPM_CC
	Policy []byte
}

// An AuthPolicy is a signed policy.
type AuthPolicy struct {
	Name   string
	Policy []PolicyCommand
}

// Name returns the name of the object: name algorithm and digest of the public area. The error
// wraps [ErrDamaged] or [ErrUnsupported].
//
// TPM 2.0 Library Part 1, section 16 (Names)
func (t *TSS2) Name() ([]byte, error) {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return nil, err
	}
	return objectName(p.NameAlg, t.Public[2:])
}

// objectName returns the name of a marshalled public area.
func objectName(alg tpm2.TPMAlgID, area []byte) ([]byte, error) {
	hash, err := alg.Hash()
	if err != nil || !hash.Available() {
		return nil, fmt.Errorf("%w name algorithm %s", ErrUnsupported, pubarea.AlgSpec(alg))
	}
	h := hash.New()
	h.Write(area)
	return h.Sum(binary.BigEndian.AppendUint16(nil, uint16(alg))), nil
}

// Importable reports whether TPM2_Import must come before the file can be loaded. Importable keys
// and some sealed data need it.
func (t *TSS2) Importable() bool { return len(t.Secret) > 0 }

// Guessed reports whether Parent and EmptyAuth are assumptions, because a pair of tpm2-tools
// contains neither.
func (t *TSS2) Guessed() bool { return t.container == TSS2Pair }
