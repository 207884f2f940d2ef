package chip20

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/softkey"
	"maclef/internal/tpm20"
)

// maxAuth is the maximum length of a secret: the digest size of the name algorithm, SHA-256. TPM
// 2.0 Library Part 1, section 19.6.4.3.
const maxAuth = sha256.Size

// NewKey implements chip.Chip.
func (c *Chip) NewKey(spec *chip.Spec) (func(*chip.Secrets) (blob.Key, error), error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	return func(with *chip.Secrets) (blob.Key, error) {
		if err := checkNewSecret(with.Key); err != nil {
			return nil, err
		}
		commands, digest, err := c.newPolicy(spec.Policy, with.Key != nil)
		if err != nil {
			return nil, err
		}
		if spec.Wrap != nil {
			return c.wrap(spec, commands, digest, with)
		}
		return c.create(spec, commands, digest, with)
	}, nil
}

// checkSpec returns an error if a TPM 2.0 cannot create what spec describes.
func checkSpec(spec *chip.Spec) error {
	switch {
	case spec.Wrap != nil && spec.Migration:
		return fmt.Errorf("%w: a migration secret is for TPM 1.2", chip.ErrNotSupported)
	case spec.Bits != 0 && spec.Wrap == nil:
		return fmt.Errorf("%w: a size in bits is for TPM 1.2; give a type, such as %s or %s", chip.ErrNotSupported, chip.RSA2048, chip.P256)
	case policy.AsksAuthValue(spec.Policy) && !spec.Secret:
		return fmt.Errorf("%w: the policy %s asks for the secret of what is made, which gets none", chip.ErrSecretNeeded, policy.StepsText(spec.Policy))
	case spec.EncScheme != 0, spec.SigScheme != 0:
		return fmt.Errorf("%w: schemes are for TPM 1.2; a key of this TPM 2.0 does all of them", chip.ErrNotSupported)
	case spec.Seal != nil && (len(spec.Seal) == 0 || len(spec.Seal) > blob.MaxSealed):
		return fmt.Errorf("%w: %d bytes of data; 1 to %d can be sealed, so encrypt more with a key that is sealed", chip.ErrNotSupported, len(spec.Seal), blob.MaxSealed)
	}
	if spec.Wrap != nil {
		if err := softkey.Check(spec.Wrap); err != nil {
			return fmt.Errorf("%w: %w", chip.ErrNotWrappable, err)
		}
	}
	if err := checkNewPolicy(spec); err != nil {
		return err
	}
	return CheckParent(spec.Parent)
}

// CheckParent returns an error if a handle cannot be that of a parent. TPM 2.0 Library Part 2,
// sections 7.2 (TPM_HT) and 7.4 (TPM_RH).
func CheckParent(handle uint32) error {
	hierarchy := tpm2.TPMHandle(handle)
	switch {
	case handle == 0, handle>>24 == 0x81:
	case hierarchy == tpm2.TPMRHOwner, hierarchy == tpm2.TPMRHEndorsement, hierarchy == tpm2.TPMRHPlatform, hierarchy == tpm2.TPMRHNull:
	default:
		return fmt.Errorf("%w: %#x cannot be a parent; give a persistent handle (0x81…), or a hierarchy (owner is 0x40000001)", chip.ErrNotSupported, handle)
	}
	return nil
}

// newKeyParent returns the parent of a new key; handle 0 is the owner hierarchy.
func newKeyParent(handle uint32) parentID {
	return parentID{handle: tpm2.TPMHandle(cmp.Or(handle, uint32(tpm2.TPMRHOwner)))}
}

// create creates a key, or seals data.
func (c *Chip) create(spec *chip.Spec, commands []blob.PolicyCommand, digest []byte, with *chip.Secrets) (blob.Key, error) {
	file := blob.TSS2{Policy: commands}
	template := blob.TSS2Template{Type: string(spec.Type), NeedSecret: with.Key != nil, AuthPolicy: digest}
	if spec.Seal != nil {
		file.Type, template.Type = blob.TSS2Sealed, "sealed"
	} else if err := c.checkNewType(cmp.Or(spec.Type, chip.RSA2048)); err != nil {
		return nil, err
	}
	marshalled, err := blob.NewTSS2Template(template)
	if err != nil {
		return nil, err
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](marshalled)
	if err != nil {
		return nil, err
	}
	return c.createUnder(spec, area, with, file)
}

// checkNewSecret returns an error if a new secret is empty or too long.
func checkNewSecret(key chip.AuthData) error {
	switch {
	case key != nil && len(bytes.TrimRight(key, "\x00")) == 0:
		return fmt.Errorf("%w: the new secret is empty, which on a TPM 2.0 is the same as none; choose one, or leave it out", chip.ErrNotSupported)
	case len(key) > maxAuth:
		return fmt.Errorf("%w: the new secret has %d bytes, and a TPM 2.0 takes %d; choose a shorter one", chip.ErrNotSupported, len(key), maxAuth)
	}
	return nil
}

// createUnder creates an object with the public area, and with data if it is a sealed object.
// file has the other fields of the key file. The secret and the data are sent encrypted.
func (c *Chip) createUnder(spec *chip.Spec, area *tpm2.TPMTPublic, with *chip.Secrets, file blob.TSS2) (blob.Key, error) {
	err := c.withNewKeyParent(spec, with, func(parent *loadedParent) error {
		if above := parent.Public.ObjectAttributes; !above.FixedTPM { // TPM 2.0 Library Part 2, section 8.3.3 (TPMA_OBJECT)
			area.ObjectAttributes.FixedTPM, area.ObjectAttributes.EncryptedDuplication = false, above.EncryptedDuplication
		}
		auth, extra, err := parent.auth(tpm2.TPMCCCreate, tpm20.EncryptIn)
		if err != nil {
			return err
		}
		file.Parent = uint32(parent.id.handle)
		file.Private, file.Public, err = c.conn.Create(parent.Object, auth, with.Key, spec.Seal, *area, extra...)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkCreated(file.Public[2:], area); err != nil {
		return nil, err
	}
	file.EmptyAuth = with.Key == nil
	k, err := blob.NewTSS2(file)
	if err != nil {
		return nil, fmt.Errorf("the TPM made a key that cannot be read: %w", err)
	}
	return k, nil
}

// withNewKeyParent calls f with the parent of a new key, and notes what the parent means for the
// key.
func (c *Chip) withNewKeyParent(spec *chip.Spec, with *chip.Secrets, f func(parent *loadedParent) error) error {
	id := newKeyParent(spec.Parent)
	if len(with.Parent) > 0 {
		if err := c.CheckParentSecret(spec.Parent, spec.MovableParent); err != nil {
			return err
		}
	}
	movable := false
	err := c.withParentOrSRK(id, with.Parent, func(parent *loadedParent) error {
		movable = !parent.Public.ObjectAttributes.FixedTPM
		return f(parent)
	})
	switch {
	case err != nil:
		return c.explainParent(err)
	case movable:
		c.note(fmt.Sprintf("the parent of what was made, the key at %#x, has no fixedTPM: whoever has a copy of it, outside of this TPM, can use what was made, too", uint32(id.handle)))
	case id.handle == tpm2.TPMRHNull:
		c.note("the parent of what was made is of the null hierarchy: it ends when the TPM restarts, as at every boot")
	}
	return nil
}

// checkCreated checks that the TPM created an object with the requested public area, except for
// the field unique.
func checkCreated(made []byte, asked *tpm2.TPMTPublic) error {
	got, err := tpm2.Unmarshal[tpm2.TPMTPublic](made)
	if err == nil {
		got.Unique = asked.Unique
	}
	if err != nil || !bytes.Equal(tpm2.Marshal(*got), tpm2.Marshal(*asked)) {
		return errors.New("the TPM made a key that differs from the request")
	}
	return nil
}

// wrap imports a key, which is sent encrypted for its parent.
func (c *Chip) wrap(spec *chip.Spec, commands []blob.PolicyCommand, digest []byte, with *chip.Secrets) (blob.Key, error) {
	if err := c.checkType(typeOf(spec.Wrap)); err != nil {
		return nil, err
	}
	var file blob.TSS2
	err := c.withNewKeyParent(spec, with, func(parent *loadedParent) error {
		if parent.Public.ObjectAttributes.EncryptedDuplication { // it takes an inner wrapper, too, which software keys do not get here
			return fmt.Errorf("%w: the parent at %#x has the attribute encryptedDuplication, and no software key is wrapped for such a parent; name another one", chip.ErrNotSupported, uint32(parent.id.handle))
		}
		wrapped, err := blob.WrapTSS2(rand.Reader, spec.Wrap, tpm2.Marshal(parent.Public), blob.TSS2Wrap{
			Parent: uint32(parent.id.handle), Auth: with.Key, Policy: commands, AuthPolicy: digest,
		})
		if err != nil {
			return err
		}
		auth, _, err := parent.auth(tpm2.TPMCCImport, 0)
		if err != nil {
			return err
		}
		file = *wrapped
		file.Private, err = c.conn.Import(parent.Object, auth, file.Public, file.Private, file.Secret)
		return explainExponent(spec.Wrap, err)
	})
	if err != nil {
		return nil, err
	}
	file.Type, file.Secret, file.EmptyAuth = blob.TSS2Loadable, nil, with.Key == nil
	k, err := blob.NewTSS2(file)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// explainExponent explains why a TPM refuses to import an RSA key with an unusual exponent. TPM 2.0
// Library Part 2, section 12.2.3.5 (TPMS_RSA_PARMS): it need not take another than 65537.
func explainExponent(wrapped crypto.PrivateKey, err error) error {
	key, ok := wrapped.(*rsa.PrivateKey)
	if ok && key.E != 65537 && (errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCRange)) {
		return fmt.Errorf("%w: this TPM refuses the public exponent %d of the key to wrap; every TPM 2.0 takes 65537: %w", chip.ErrNotWrappable, key.E, err)
	}
	return err
}
