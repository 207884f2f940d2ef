package blob

import (
	"crypto"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
	"maclef/internal/softkey"
)

// TSS2Wrap describes the key file of a wrapped software key.
type TSS2Wrap struct {
	// Parent is the handle of the parent: a persistent handle (0x81…), or a hierarchy for its
	// primary key (0x40…; 0 means the owner hierarchy).
	Parent uint32
	// RSAParent says that the primary key is RSA.
	RSAParent bool
	// Auth is the key's secret, empty if it has none; at most 32 bytes.
	Auth []byte
	// NoDA makes wrong tries of Auth not count towards the TPM's lockout.
	NoDA bool
	// Policy controls the use of the key, if set. AuthPolicy is its SHA-256 digest.
	Policy      []PolicyCommand
	AuthPolicy  []byte
	Description string
}

// WrapTSS2 makes an importable key file from a software key. It encrypts the private part for
// parent, the public area (TPMT_PUBLIC) of a storage key in the target TPM. The key signs and
// decrypts (ECC: agrees on secrets) with any scheme.
//
// priv is an *rsa.PrivateKey of 1024, 2048, 3072 or 4096 bits with two primes, or an
// *ecdsa.PrivateKey on P-256, P-384 or P-521. The target TPM may lack the size or curve. random nil
// means [rand.Reader]. Errors say what in priv, parent or opts does not fit, but never contain a
// value of priv.
//
// TPM 2.0 Library Part 1, section 23.3 (Duplication); Part 3, section 13.3 (TPM2_Import)
func WrapTSS2(random io.Reader, priv crypto.PrivateKey, parent []byte, opts TSS2Wrap) (*TSS2, error) {
	area, sensitive, err := softkey.Split(priv)
	if err != nil {
		return nil, err
	}
	defer softkey.Clear(sensitive)
	if err := opts.authorize(area); err != nil {
		return nil, err
	}
	sensitive.AuthValue.Buffer = append([]byte(nil), opts.Auth...)
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, err
	}
	duplicate, seed, err := duplicate(random, parent, name.Buffer, sensitive)
	if err != nil {
		return nil, err
	}
	if opts.Parent == 0 {
		opts.Parent = handleOwner
	}
	return NewTSS2(TSS2{
		Type:        TSS2Importable,
		EmptyAuth:   len(opts.Auth) == 0,
		Policy:      opts.Policy,
		Secret:      appendSized16(nil, seed),
		Description: opts.Description,
		RSAParent:   opts.RSAParent,
		Parent:      opts.Parent,
		Public:      appendSized16(nil, tpm2.Marshal(area)),
		Private:     appendSized16(nil, duplicate),
	})
}

// authorize sets who may use the key.
func (o TSS2Wrap) authorize(area *tpm2.TPMTPublic) error {
	tmpl := TSS2Template{NeedSecret: len(o.Auth) > 0, NoDA: o.NoDA, AuthPolicy: o.AuthPolicy}
	if len(o.Auth) > pubarea.HashSizes[area.NameAlg] {
		return fmt.Errorf("the secret of the key to wrap has %d bytes, and a TPM 2.0 takes %d", len(o.Auth), pubarea.HashSizes[area.NameAlg])
	}
	if (len(o.Policy) > 0) != (len(o.AuthPolicy) > 0) {
		return errors.New("the policy of the key to wrap and its digest (authPolicy) go together")
	}
	return tmpl.authorize(area)
}

func appendSized16(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// duplicate encrypts a sensitive area for a parent, without an inner wrapper.
func duplicate(random io.Reader, parent []byte, name []byte, sensitive *tpm2.TPMTSensitive) (duplicate, seed []byte, err error) {
	if random == nil {
		random = rand.Reader
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](parent)
	if err != nil || !area.ObjectAttributes.Restricted || !area.ObjectAttributes.Decrypt || area.ObjectAttributes.SignEncrypt {
		return nil, nil, errors.New("the parent of the key to wrap is no storage key (restricted, decrypt); give the public area of one")
	}
	if area.Type != tpm2.TPMAlgRSA && area.Type != tpm2.TPMAlgECC {
		return nil, nil, errors.New("the parent of the key to wrap is a symmetric key, for which nobody outside of the TPM can encrypt; give an RSA or ECC parent")
	}
	if _, err := pubarea.Parse(appendSized16(nil, parent)); err != nil {
		return nil, nil, fmt.Errorf("parent of the key to wrap: %w", err)
	}
	public, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return nil, nil, fmt.Errorf("parent of the key to wrap: %w", err)
	}
	clearText := tpm2.Marshal(sensitive)
	defer clear(clearText)
	duplicate, seed, err = tpm2.CreateDuplicate(random, public, name, clearText)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the key to wrap for its parent: %w", err)
	}
	return duplicate, seed, nil
}
