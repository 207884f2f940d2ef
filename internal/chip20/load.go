package chip20

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/pubarea"
	"maclef/internal/tpm20"
)

// Use implements chip.Chip.
func (c *Chip) Use(file blob.Key) (*chip.KeyOps, error) {
	t, ok := file.(*blob.TSS2)
	if !ok {
		return nil, chip.OfKind(chip.ErrWrongGeneration, "the file is for a TPM 1.2, and this is a TPM 2.0", nil)
	}
	if err := CheckParent(t.Parent); err != nil {
		return nil, err
	}
	if err := checkUseful(t); err != nil {
		return nil, err
	}
	if err := checkPolicy(t); err != nil {
		return nil, err
	}
	if t.Sealed() {
		return &chip.KeyOps{Unseal: unseal}, nil
	}
	if err := t.Unsupported(); err != nil {
		return nil, fmt.Errorf("%w: %w", chip.ErrNotSupported, err)
	}
	ops, err := newKeyOps(t, c.can)
	if err != nil {
		return nil, err
	}
	if !t.CanSign() && !t.CanDecrypt() && !t.CanAgree() {
		_, err := ops.planSign(make([]byte, crypto.SHA256.Size()), crypto.SHA256) // which knows why
		return nil, cmp.Or(err, errNoOperation)
	}
	return ops.ops(), nil
}

// unseal is the operation that returns sealed data.
var unseal = &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
	return in.(*loadedKey).unseal(key)
}}

var errNoOperation = fmt.Errorf("%w: this key can neither sign nor decrypt what a program gives it", chip.ErrKeyLimits)

// checkUseful returns an error for a key, or sealed data, that no program can use.
func checkUseful(t *blob.TSS2) error {
	if p, err := pubarea.Parse(t.Public); err == nil && p.Useless() {
		return fmt.Errorf("%w: no program can use it: it was made with neither the attribute userWithAuth nor a policy; make another with one of the two", chip.ErrNotSupported)
	}
	return nil
}

// Load implements chip.Chip, for a key that Use takes, as all that follows.
func (c *Chip) Load(file blob.Key, srk chip.AuthData) (chip.LoadedKey, error) {
	t := file.(*blob.TSS2)
	if t.Handle != 0 {
		return c.usePersistent(t)
	}
	parents := c.parentsOf(t)
	if len(srk) == 0 && c.knownNoParent(parents[0], t) {
		return nil, c.explainLoad(t, &tpm20.Error{Code: tpm2.TPMRCIntegrity})
	}
	in, err := c.loadUnderPrimary(parents, t, srk)
	if explained := explains(err); t.Guessed() && isHierarchy(uint32(parentIn(t).handle)) && explained != ofNothing && explained != ofKey {
		in, err = c.loadUnderPersistent(t, srk, err)
	}
	if err != nil {
		return nil, c.explainLoad(t, err)
	}
	return in, nil
}

// loadUnderPrimary loads a key under the first parent that fits. It needs no secret of the owner if
// that parent is the persistent SRK.
func (c *Chip) loadUnderPrimary(parents []parentID, t *blob.TSS2, srk chip.AuthData) (chip.LoadedKey, error) {
	if len(srk) > 0 {
		return c.loadUnderAny(parents, t, srk)
	}
	kept, ok, err := c.persistentSRKFor(parents[0])
	if err != nil {
		return nil, err
	}
	if ok {
		if in, err := c.loadUnderPersistentSRK(kept, t); in != nil || err != nil {
			return in, err
		}
	}
	in, failed := c.loadUnderAny(parents, t, srk)
	if !errors.Is(failed, chip.ErrWrongSRKSecret) {
		return in, failed
	}
	// A context on disk was of an earlier start, or the SRK is another one of the parents.
	if kept, ok, err = c.persistentSRKForAny(parents); err != nil {
		return nil, err
	}
	if ok {
		if in, err := c.loadUnderPersistentSRK(kept, t); in != nil || err != nil {
			return in, err
		}
	}
	return nil, failed
}

// loadUnderAny loads a key under the first parent that fits. A later parent that the TPM cannot
// create says nothing about the file.
func (c *Chip) loadUnderAny(parents []parentID, t *blob.TSS2, srk chip.AuthData) (chip.LoadedKey, error) {
	var failed error
	none := true // no parent fits
	for i, id := range parents {
		if i == c.usualParents(t) {
			c.note(fmt.Sprintf("no usual parent fits this key: trying %d other kinds of primary keys, which can take seconds each", len(parents)-i))
		}
		in, err := c.loadUnder(id, t, srk)
		if err == nil {
			c.foundParents[parentIn(t)] = id
			return in, nil
		}
		if class := c.ClassOf(err); class != chip.ClassRefused && class != chip.ClassAuth {
			return nil, err
		}
		failed = better(failed, err)
		explained := explains(err)
		if none = none && explained == ofNoParent; explained == ofSecret || explained == ofKey || explained == ofNothing && i == 0 {
			return nil, failed
		}
	}
	if none && len(srk) == 0 && !t.Guessed() {
		c.recordNoParent(parents[0], t)
	}
	return nil, failed
}

// loadUnderPersistent tries the persistent storage keys, for a key whose file does not name its
// parent.
func (c *Chip) loadUnderPersistent(t *blob.TSS2, srk chip.AuthData, failed error) (chip.LoadedKey, error) {
	handles, err := c.conn.Handles(persistentFirst)
	if err != nil {
		return nil, err
	}
	var kept []parentID
	for _, h := range handles {
		// Do not guess with a parent whose wrong secrets the TPM counts.
		if parent, err := c.readParent(parentID{handle: h}); err == nil && !countsSecretOf(parent.Public) {
			kept = append(kept, parentID{handle: h})
		}
	}
	for _, id := range kept {
		in, err := c.loadUnder(id, t, srk)
		if err == nil {
			return in, nil
		}
		if class := c.ClassOf(err); class != chip.ClassRefused && class != chip.ClassAuth {
			return nil, err
		}
		failed = better(failed, err)
	}
	return nil, failed
}

// loadUnder loads a key under one parent.
func (c *Chip) loadUnder(id parentID, t *blob.TSS2, srk chip.AuthData) (chip.LoadedKey, error) {
	if len(srk) > 0 {
		if err := c.CheckParentSecret(uint32(id.handle), t.MovableParent); err != nil {
			return nil, err
		}
	}
	var object *tpm20.Object
	err := c.withParent(id, srk, func(parent *loadedParent) error {
		private, err := c.privateOf(t, parent)
		if err != nil {
			return err
		}
		if c.needsSharedSession(t) {
			if _, err := parent.session(); err != nil {
				return err
			}
		}
		auth, _, err := parent.auth(tpm2.TPMCCLoad, 0)
		if err != nil {
			return err
		}
		object, err = c.conn.Load(parent.Object, auth, private, t.Public)
		return err
	})
	if err != nil {
		if object != nil {
			err = errors.Join(err, c.conn.Flush(object.Handle))
		}
		return nil, err
	}
	return &loadedKey{chip: c, object: object, file: t, parent: id, secret: c.parents[id] != nil && c.parents[id].secret}, nil
}

// needsSharedSession reports whether operations of a key use the shared session.
func (c *Chip) needsSharedSession(t *blob.TSS2) bool {
	return t.NeedsSecret() && !needsPolicy(t)
}

// privateOf returns the private area of a key for TPM2_Load. It imports an importable key once,
// and keeps the result while the chip is open.
func (c *Chip) privateOf(t *blob.TSS2, parent *loadedParent) ([]byte, error) {
	if !t.Importable() {
		return t.Private, nil
	}
	h := sha256.New()
	for _, part := range [][]byte{parent.Name.Buffer, t.Public, t.Private, t.Secret} {
		h.Write(part)
	}
	digest := [sha256.Size]byte(h.Sum(nil))
	if private, ok := c.imported[digest]; ok {
		return private, nil
	}
	auth, _, err := parent.auth(tpm2.TPMCCImport, 0)
	if err != nil {
		return nil, err
	}
	private, err := c.conn.Import(parent.Object, auth, t.Public, t.Private, t.Secret)
	if err != nil {
		return nil, err
	}
	c.imported[digest] = private
	return private, nil
}

// usePersistent is Load for a persistent key.
func (c *Chip) usePersistent(t *blob.TSS2) (chip.LoadedKey, error) {
	object, err := c.conn.ReadPublic(tpm2.TPMHandle(t.Handle))
	if err != nil {
		return nil, c.explainHandle(t.Handle, err)
	}
	if !bytes.Equal(tpm2.Marshal(tpm2.New2B(*object.Public)), t.Public) {
		if t.Private != nil {
			return nil, chip.OfKind(chip.ErrWrongTPM, fmt.Sprintf("the file says that the TPM keeps it at %#x, and another key is there", t.Handle), nil)
		}
		return nil, chip.OfKind(chip.ErrUnloaded, fmt.Sprintf("what is at %#x is another key by now", t.Handle), nil)
	}
	return &loadedKey{chip: c, object: object, file: t, parent: nullParent}, nil
}

// ReadHandle implements chip.Chip. TPM 2.0 Library Part 3, section 12.4 (TPM2_ReadPublic).
func (c *Chip) ReadHandle(handle uint32) (blob.Key, error) {
	object, err := c.conn.ReadPublic(tpm2.TPMHandle(handle))
	var unknown *tpm20.UnknownObject
	switch {
	case errors.As(err, &unknown): // it can be described
		return &blob.TSS2{Public: unknown.Public, Handle: handle}, nil
	case err != nil:
		return nil, c.explainHandle(handle, err)
	}
	public := tpm2.Marshal(tpm2.New2B(*object.Public))
	// Nothing tells whether the key has a secret, so EmptyAuth is false.
	return &blob.TSS2{Public: public, Handle: handle}, nil
}

func (c *Chip) explainHandle(handle uint32, err error) error {
	if c.ClassOf(err) == chip.ClassLost {
		return chip.OfKind(chip.ErrNoKey, fmt.Sprintf("this TPM keeps none at %#x", handle), err)
	}
	return c.explain(err, nil)
}

// Restore implements chip.Chip. An error about a saved context means only that the key must be
// loaded from its file. TPM 2.0 Library Part 3, section 28.3 (TPM2_ContextLoad).
func (c *Chip) Restore(file blob.Key, was chip.LoadedKey, saved []byte) (chip.LoadedKey, error) {
	if was == nil {
		t := file.(*blob.TSS2)
		object, err := c.restoreObject(saved, func(o *tpm20.Object) bool {
			return bytes.Equal(tpm2.Marshal(tpm2.New2B(*o.Public)), t.Public)
		})
		if err != nil {
			return nil, c.explain(err, nil)
		}
		return &loadedKey{chip: c, object: object, file: t, parent: c.likelyParent(t)}, nil
	}
	k := *was.(*loadedKey)
	object, err := c.conn.LoadContext(saved, k.object)
	if err != nil {
		if c.ClassOf(err) == chip.ClassLost {
			err = chip.OfKind(chip.ErrUnloaded, "the TPM does not take its saved context any more", nil)
		}
		return nil, c.explain(err, nil)
	}
	k.object, k.bound = object, nil
	return &k, nil
}

// restoreObject loads an object from a context on disk, and reads its public area. If that is not
// the expected one, the handle in the reply may be wrong, so it is unknown what is loaded.
func (c *Chip) restoreObject(saved []byte, fits func(*tpm20.Object) bool) (*tpm20.Object, error) {
	if !tpm20.IsObjectContext(saved) {
		return nil, chip.OfKind(chip.ErrUnloaded, "the context on disk is not of an object", nil)
	}
	object, err := c.conn.LoadContext(saved, new(tpm20.Object))
	if err != nil {
		return nil, err
	}
	read, err := c.conn.ReadPublic(object.Handle)
	var refused *tpm20.Error
	if err == nil && !fits(read) || errors.As(err, &refused) {
		c.conn.Drop()
		return nil, chip.ErrOtherContext
	}
	return read, err
}

// Prepare implements chip.Chip. To salt the session, the key's parent must be loaded for a
// moment. A key that was never loaded gets the session when it is loaded.
func (c *Chip) Prepare(file blob.Key, secret bool) (err error) {
	t := file.(*blob.TSS2)
	policy := needsPolicy(t)
	if !policy && !secret || !policy && c.session.Alive() {
		return nil
	}
	parent := c.likelyParent(t) // under which it was loaded before
	switch {
	case !c.hasContext(parent):
	case policy:
		_, err = c.policySession(nameAlg(t), parent)
	default:
		_, err = c.sharedSession(parent)
	}
	return c.explain(err, nil)
}

// nameAlg returns the name algorithm of a key without parsing the whole public area. TPM 2.0
// Library Part 2, section 12.2.4 (TPMT_PUBLIC).
func nameAlg(t *blob.TSS2) tpm2.TPMIAlgHash {
	const at = 2 + 2 // size, type
	if len(t.Public) < at+2 {
		return tpm2.TPMAlgNull
	}
	return tpm2.TPMIAlgHash(binary.BigEndian.Uint16(t.Public[at:]))
}
