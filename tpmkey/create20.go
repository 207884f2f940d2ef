package tpmkey

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
)

// maxAuth20 is the longest secret of an object whose names are SHA-256 digests. TPM
// 2.0 Library Part 1, section 19.6.4.3.
const maxAuth20 = sha256.Size

func (c *chip20) checkCreate(o *CreateOptions) error {
	switch {
	case o.Bits != 0:
		return fmt.Errorf("%w: a size in bits is for TPM 1.2; give a type, such as %s or %s", ErrNotSupported, RSA2048, P256)
	case o.EncScheme != 0, o.SigScheme != 0:
		return fmt.Errorf("%w: schemes are for TPM 1.2; a key of this TPM 2.0 does all of them", ErrNotSupported)
	}
	if _, err := blob.NewTSS2Template(blob.TSS2Template{Type: string(o.Type)}); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return checkParent(o.Parent)
}

// checkParent refuses handles that no parent has. TPM 2.0 Library Part 2, sections 7.2
// (TPM_HT) and 7.4 (TPM_RH).
func checkParent(handle uint32) error {
	hierarchy := tpm2.TPMHandle(handle)
	switch {
	case handle == 0, handle>>24 == 0x81:
	case hierarchy == tpm2.TPMRHOwner, hierarchy == tpm2.TPMRHEndorsement, hierarchy == tpm2.TPMRHPlatform, hierarchy == tpm2.TPMRHNull:
	default:
		return fmt.Errorf("%w: %#x is no parent; give a persistent handle (0x81…), or a hierarchy (owner is 0x40000001)", ErrNotSupported, handle)
	}
	return nil
}

// madeUnder is the parent of a new key.
func madeUnder(handle uint32) parentID {
	return parentID{handle: tpm2.TPMHandle(cmp.Or(handle, uint32(tpm2.TPMRHOwner)))}
}

func (c *chip20) create(o *CreateOptions, srk, key authData) (*blob.Key, error) {
	if err := checkNewSecret(key); err != nil {
		return nil, err
	}
	commands, digest, err := c.newPolicy(o.Policy, key != nil)
	if err != nil {
		return nil, err
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: string(o.Type), NeedSecret: key != nil, AuthPolicy: digest})
	if err != nil {
		return nil, err
	}
	if err := c.checkType(cmp.Or(o.Type, RSA2048)); err != nil {
		return nil, err
	}
	return c.createUnder(madeUnder(o.Parent), area, nil, srk, key, blob.TSS2{Policy: commands})
}

func (c *chip20) checkSeal(data []byte, o *SealOptions) error {
	if len(data) == 0 || len(data) > blob.MaxSealed {
		return fmt.Errorf("%w: %d bytes of data; 1 to %d can be sealed, so encrypt more with a key that is sealed", ErrNotSupported, len(data), blob.MaxSealed)
	}
	return checkParent(o.Parent)
}

func (c *chip20) seal(data []byte, o *SealOptions, srk, key authData) (*blob.Key, error) {
	if err := checkNewSecret(key); err != nil {
		return nil, err
	}
	commands, digest, err := c.newPolicy(o.Policy, key != nil)
	if err != nil {
		return nil, err
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "sealed", NeedSecret: key != nil, AuthPolicy: digest})
	if err != nil {
		return nil, err
	}
	return c.createUnder(madeUnder(o.Parent), area, data, srk, key, blob.TSS2{Type: blob.TSS2Sealed, Policy: commands})
}

// checkNewSecret refuses what is no secret on a TPM 2.0, or too long for one.
func checkNewSecret(key authData) error {
	switch {
	case key != nil && len(bytes.TrimRight(key, "\x00")) == 0:
		return fmt.Errorf("%w: the new secret is empty, which on a TPM 2.0 is the same as none; choose one, or leave it out", ErrNotSupported)
	case len(key) > maxAuth20:
		return fmt.Errorf("%w: the new secret has %d bytes, and a TPM 2.0 takes %d; choose a shorter one", ErrNotSupported, len(key), maxAuth20)
	}
	return nil
}

// newPolicy returns the commands of a new object's policy, and their digest.
func (c *chip20) newPolicy(p *Policy, secret bool) (commands []blob.PolicyCommand, digest []byte, err error) {
	switch {
	case p == nil:
		return nil, nil, nil
	case len(p.pcrs) == 0:
		return nil, nil, fmt.Errorf("%w: a policy without a PCR; make one with ParsePolicy", ErrNotSupported)
	}
	if commands, err = c.policyCommands(p, secret); err != nil {
		return nil, nil, c.explain(err, nil)
	}
	digest, err = blob.PolicyDigest(tpm2.TPMAlgSHA256, commands)
	return commands, digest, err
}

// createUnder creates an object with the area, and data where it is sealed; file says
// what else goes into its file. The secret and the data cross the bus encrypted.
func (c *chip20) createUnder(id parentID, area *tpm2.TPMTPublic, data []byte, srk, key authData, file blob.TSS2) (*blob.Key, error) {
	var private, public []byte
	err := c.underMaker(&id, srk, func(parent *tpm20.Object, _ tpm2.Session) error {
		s, err := c.startSession(parent)
		if err != nil {
			return err
		}
		private, public, err = c.conn.Create(parent, s.For(parentSecret(id, srk), tpm20.EncryptIn), key, data, *area)
		return err
	})
	if err != nil {
		return nil, c.explainParent(err)
	}
	if err := isAsAsked(public[2:], area); err != nil {
		return nil, err
	}
	file.EmptyAuth, file.Parent = key == nil, uint32(id.handle)
	file.Public, file.Private = public, private
	k, err := blob.NewTSS2(file)
	if err != nil {
		return nil, fmt.Errorf("the TPM made a key that cannot be read: %w", err)
	}
	return k, nil
}

// parentSecret is the secret of a persistent parent; that of a hierarchy is for making
// the parent, and not for using it.
func parentSecret(id parentID, srk authData) authData {
	if isHierarchy(uint32(id.handle)) {
		return nil
	}
	return srk
}

// isAsAsked refuses a public area that differs from the one that was asked for, but in
// what the TPM was to choose.
func isAsAsked(made []byte, asked *tpm2.TPMTPublic) error {
	got, err := tpm2.Unmarshal[tpm2.TPMTPublic](made)
	if err == nil {
		got.Unique = asked.Unique
	}
	if err != nil || !bytes.Equal(tpm2.Marshal(*got), tpm2.Marshal(*asked)) {
		return errors.New("the TPM made another key than it was asked for")
	}
	return nil
}

func (c *chip20) checkWrap(key crypto.PrivateKey, o *WrapOptions) error {
	if !o.Migration.IsZero() {
		return fmt.Errorf("%w: a migration secret is for TPM 1.2", ErrNotSupported)
	}
	if o.EncScheme != 0 || o.SigScheme != 0 {
		return fmt.Errorf("%w: schemes are for TPM 1.2; a key of this TPM 2.0 does all of them", ErrNotSupported)
	}
	if err := blob.CheckWrapTSS2(key); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return checkParent(o.Parent)
}

func (c *chip20) srkReadable() (bool, error) { return true, nil }

// wrap imports a key, which crosses the bus encrypted for its parent.
func (c *chip20) wrap(key crypto.PrivateKey, o *WrapOptions, with *wrapSecrets) (*blob.Key, error) {
	if err := checkNewSecret(with.key); err != nil {
		return nil, err
	}
	commands, _, err := c.newPolicy(o.Policy, with.key != nil)
	if err != nil {
		return nil, err
	}
	id := madeUnder(o.Parent)
	if err := c.checkType(typeOf(key)); err != nil {
		return nil, err
	}
	var file blob.TSS2
	err = c.underMaker(&id, with.srk, func(parent *tpm20.Object, auth tpm2.Session) error {
		wrapped, err := blob.WrapTSS2(rand.Reader, key, parent.Public, blob.TSS2Wrap{
			Parent: uint32(id.handle), Auth: with.key, Policy: commands,
		})
		if err != nil {
			return err
		}
		file = *wrapped.TSS2
		file.Private, err = c.conn.Import(parent, auth, file.Public, file.Private, file.Secret)
		return err
	})
	if err != nil {
		return nil, c.explainParent(err)
	}
	file.Type, file.Secret, file.EmptyAuth = blob.TSS2Loadable, nil, with.key == nil
	return blob.NewTSS2(file)
}
