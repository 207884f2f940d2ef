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

// TSS2 is what a key file of a TPM 2.0 says, and what it lacks.
//
// draft-bottomley-tpm2-keys, section 3 (Key Format)
type TSS2 struct {
	Type        TSS2Type
	EmptyAuth   bool            // no password is needed; tpm2_encodeobject 5.4 writes the opposite
	Policy      []PolicyCommand // must be run before the key is used, in this order
	Secret      []byte          // TPM2B_ENCRYPTED_SECRET; importable keys only, and importable sealed data
	AuthPolicy  []AuthPolicy    // signed policies, any of which PolicyAuthorize takes
	Description string
	RSAParent   bool   // the primary of Parent is RSA (template H-1), not ECC (H-2)
	Parent      uint32 // a persistent handle (0x81…) or a hierarchy (0x40…)
	Public      []byte // TPM2B_PUBLIC
	Private     []byte // TPM2B_PRIVATE, of importable keys the duplicate

	// Handle is that of a key that the TPM itself keeps, 0 for others. Such a key has
	// no file, no parent and no private part.
	Handle uint32

	container Container // 0 where there was none
	der       []byte    // the file that the other fields were read from, nil for others
}

// TSS2Type is what a key file of a TPM 2.0 holds.
type TSS2Type int

// The kinds of files, by their object identifiers 2.23.133.10.1.3 to .5.
const (
	TSS2Loadable TSS2Type = iota
	TSS2Importable
	TSS2Sealed
)

// String is what people call it.
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

// A PolicyCommand is a command of a policy: its code, and its parameters as they go
// over the wire, without the handle of the session. Some commands have another form
// in files (draft-bottomley-tpm2-keys, sections 4.1.2 and 4.2).
type PolicyCommand struct {
	Code   uint32 // TPM_CC
	Policy []byte
}

// An AuthPolicy is a policy that somebody signed.
type AuthPolicy struct {
	Name   string
	Policy []PolicyCommand
}

// Name returns the name of the object: name algorithm and digest of the public area.
// The error, which wraps [ErrDamaged] or [ErrUnsupported], says why there is none.
//
// TPM 2.0 Library Part 1, section 16 (Names)
func (t *TSS2) Name() ([]byte, error) {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return nil, err
	}
	return objectName(p.NameAlg, t.Public[2:])
}

// objectName makes the name of an object from its marshalled public area.
func objectName(alg tpm2.TPMAlgID, area []byte) ([]byte, error) {
	hash, err := alg.Hash()
	if err != nil || !hash.Available() {
		return nil, fmt.Errorf("%w name algorithm %s", ErrUnsupported, pubarea.AlgSpec(alg))
	}
	h := hash.New()
	h.Write(area)
	return h.Sum(binary.BigEndian.AppendUint16(nil, uint16(alg))), nil
}

// Importable reports whether the file must go through TPM2_Import before it can be
// loaded, as importable keys and some sealed data must.
func (t *TSS2) Importable() bool { return len(t.Secret) > 0 }

// Guessed reports whether Parent and EmptyAuth come from no file: a pair of tpm2-tools
// says neither.
func (t *TSS2) Guessed() bool { return t.container == TSS2Pair }
