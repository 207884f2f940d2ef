package chip20

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// A parentID identifies a parent: a persistent key, or a primary key of a hierarchy.
type parentID struct {
	handle  tpm2.TPMHandle
	primary primary // for a hierarchy: which template
}

// A knownParent is a parent that was used before.
type knownParent struct {
	object *tpm20.Object
	// context is the saved context of a primary key.
	context []byte
	// secret means that the hierarchy's secret was needed to create it.
	secret bool
}

// isHierarchy reports whether a parent's handle is a hierarchy; the parent is then a primary key
// of it. TPM 2.0 Library Part 2, section 7.4 (TPM_RH).
func isHierarchy(handle uint32) bool { return handle>>24 == 0x40 }

// parentsOf returns the possible parents of a key file, most likely first; or first the parent
// that was found before.
func (c *Chip) parentsOf(t *blob.TSS2) []parentID {
	first := c.likelyParent(t)
	all := []parentID{first}
	hierarchy := parentIn(t).handle
	if !isHierarchy(uint32(hierarchy)) {
		return all
	}
	for p := range numberOfPrimaries { // primaryH2 comes first
		if id := (parentID{hierarchy, p}); id != first {
			all = append(all, id)
		}
	}
	return all
}

// usualParents returns how many of parentsOf are tried without a note: the likely one and
// primaryH2.
func (c *Chip) usualParents(t *blob.TSS2) int {
	if c.likelyParent(t).primary == primaryH2 {
		return 1
	}
	return 2
}

// likelyParent returns the first of parentsOf.
func (c *Chip) likelyParent(t *blob.TSS2) parentID {
	in := parentIn(t)
	if fits, ok := c.foundParents[in]; ok {
		return fits
	}
	if !isHierarchy(uint32(in.handle)) {
		return parentID{handle: in.handle}
	}
	return parentID{in.handle, in.likeliest()}
}

// fileParent is what a file says about its parent.
type fileParent struct {
	handle   tpm2.TPMHandle
	rsa, old bool
}

func parentIn(t *blob.TSS2) fileParent {
	old := t.Container() == blob.TSS2BlobPEM || t.Container() == blob.TSS2BlobDER
	return fileParent{tpm2.TPMHandle(cmp.Or(t.Parent, uint32(tpm2.TPMRHOwner))), t.RSAParent, old}
}

// likeliest returns the primary key that the file most likely means.
func (f fileParent) likeliest() primary {
	switch {
	case f.old:
		return primaryOld
	case f.rsa:
		return primaryH1
	}
	return primaryH2
}

// withParent calls f while a parent is loaded. Then it flushes a primary key, because a TPM has
// few slots. srk is the secret of a persistent parent, or of the hierarchy.
func (c *Chip) withParent(id parentID, srk chip.AuthData, f func(parent *loadedParent) error) error {
	object, err := c.loadParent(id, srk)
	if err != nil {
		return err
	}
	if !isHierarchy(uint32(id.handle)) {
		err := c.checkParentLockout(object, srk)
		if err == nil {
			err = c.asParentGone(object, f(&loadedParent{object, c, id, srk}))
		}
		switch c.ClassOf(err) {
		case chip.ClassRefused, chip.ClassLost:
			delete(c.parents, id) // another key may be at the handle now
		}
		return err
	}
	// A primary key of ours has no secret. An error of Flush is ignored: f has succeeded or
	// failed before, and the connection is then broken.
	err = c.asParentGone(object, f(&loadedParent{object, c, id, nil}))
	c.conn.Flush(object.Handle)
	return err
}

// A parentGone error means that the parent was flushed while it was in use.
type parentGone struct{ error }

func (e *parentGone) Unwrap() error { return e.error }

// asParentGone wraps err in parentGone if it is about the parent's handle, not the key's.
func (c *Chip) asParentGone(parent *tpm20.Object, err error) error {
	var code *tpm20.Error
	if !errors.As(err, &code) || code.Gone != parent.Handle {
		return err
	}
	return &parentGone{err}
}

// loadParent returns a parent that is loaded: a persistent key, or a primary key that it restores
// or creates.
func (c *Chip) loadParent(id parentID, srk chip.AuthData) (*tpm20.Object, error) {
	known := c.parents[id]
	if known != nil && known.context != nil {
		object, err := c.conn.LoadContext(known.context, known.object)
		if class := c.ClassOf(err); class != chip.ClassRefused && class != chip.ClassLost {
			return object, c.explainParent(err)
		}
		known.context = nil // the context is from before a restart
	}
	if !isHierarchy(uint32(id.handle)) {
		return c.readParent(id)
	}
	entry := ""
	if len(srk) == 0 && id.handle != tpm2.TPMRHNull {
		entry = c.parentEntry(id)
	}
	if object, err := c.restoreParent(id, entry); object != nil || err != nil {
		return object, c.explainParent(err)
	}
	object, err := c.createPrimary(id, srk)
	if err != nil {
		return nil, c.explainParent(err)
	}
	if known != nil && id.handle != tpm2.TPMRHNull && !bytes.Equal(known.object.Name.Buffer, object.Name.Buffer) {
		// The TPM was cleared, or another device answers. Keys of the old TPM are useless with
		// it, and their secrets must not be sent to it.
		return nil, errors.Join(errOtherParent, c.conn.Flush(object.Handle))
	}
	saved, err := c.conn.SaveContext(object)
	if err != nil && c.ClassOf(err) != chip.ClassRefused { // some TPMs save no contexts
		err = c.asParentGone(object, err)
		c.conn.Flush(object.Handle)
		return nil, c.explainParent(err)
	}
	c.parents[id] = &knownParent{object, saved, entry == ""}
	if saved != nil {
		c.cache.Write(entry, saved)
	}
	return object, nil
}

// restoreParent loads a primary key from its context on disk. It returns nil if there is none, or
// if the TPM does not load it.
func (c *Chip) restoreParent(id parentID, entry string) (*tpm20.Object, error) {
	saved := c.cache.Read(entry)
	if saved == nil {
		return nil, nil
	}
	object, err := c.restoreObject(saved, func(o *tpm20.Object) bool { return o.MadeFrom(id.primary.template()) && o.PrimaryOf(id.handle) })
	switch class := c.ClassOf(err); {
	case errors.Is(err, chip.ErrOtherContext):
		c.cache.Remove(entry)
	case class == chip.ClassNone:
		if known := c.parents[id]; known != nil && !bytes.Equal(known.object.Name.Buffer, object.Name.Buffer) {
			return nil, errors.Join(errOtherParent, c.conn.Flush(object.Handle))
		}
		c.parents[id] = &knownParent{object: object, context: saved}
	case class == chip.ClassRefused, class == chip.ClassLost:
		c.cache.Remove(entry)
		return nil, nil
	}
	return object, err
}

// hasContext reports whether a parent probably does not have to be created: it is a persistent
// key that was read before, or its context is in memory or on disk.
func (c *Chip) hasContext(id parentID) bool {
	if known := c.parents[id]; known != nil {
		return known.context != nil || !isHierarchy(uint32(id.handle))
	}
	return isHierarchy(uint32(id.handle)) && id.handle != tpm2.TPMRHNull && c.cache.Read(c.parentEntry(id)) != nil
}

var errOtherParent = chip.OfKind(chip.ErrWrongTPM, "its primary key has changed: the TPM was cleared, or is another one; open it again", nil)

// readParent reads a persistent parent and checks that it is a storage key. It does so once.
func (c *Chip) readParent(id parentID) (*tpm20.Object, error) {
	if known := c.parents[id]; known != nil {
		return known.object, nil
	}
	object, err := c.conn.ReadPublic(id.handle)
	if err != nil {
		if c.ClassOf(err) == chip.ClassLost {
			return nil, chip.OfKind(chip.ErrNoParent, fmt.Sprintf("this TPM keeps no key at %#x, where the parent should be", uint32(id.handle)), err)
		}
		var unknown *tpm20.UnknownObject
		if errors.As(err, &unknown) {
			return nil, fmt.Errorf("%w: the parent at %#x uses %s, and this program uses parents with AES; name another parent", chip.ErrNotSupported, uint32(id.handle), unknown.Algorithm)
		}
		return nil, c.explainParent(err)
	}
	if !isStorageKey(object.Public) {
		return nil, chip.OfKind(chip.ErrNoParent, fmt.Sprintf("what this TPM keeps at %#x is no storage key", uint32(id.handle)), nil)
	}
	c.parents[id] = &knownParent{object: object}
	return object, nil
}

// createPrimary creates a primary key. Package tpm20 checks it against the template.
func (c *Chip) createPrimary(id parentID, srk chip.AuthData) (*tpm20.Object, error) {
	if len(srk) == 0 || id.handle == tpm2.TPMRHNull {
		return c.conn.CreatePrimary(id.handle, nil, id.primary.template())
	}
	// The hierarchy's secret is sent in a session salted to a primary key of the null hierarchy,
	// which has no secret.
	var object *tpm20.Object
	err := c.withParent(nullParent, nil, func(salt *loadedParent) error {
		s, err := salt.session()
		if err == nil {
			object, err = c.conn.CreatePrimary(id.handle, s.For(srk, tpm20.EncryptIn), id.primary.template())
		}
		return err
	})
	return object, err
}

// nullParent is a primary key to salt sessions to if there is no parent.
var nullParent = parentID{handle: tpm2.TPMRHNull, primary: primaryH2}

// startSession returns the shared session. If there is none, it starts one, salted to a loaded
// key.
func (c *Chip) startSession(salt *tpm20.Object) (*tpm20.Session, error) {
	if c.session != nil && c.session.Alive() {
		return c.session, nil
	}
	s, err := c.conn.StartHMAC(salt, nil, nil)
	if err != nil {
		return nil, err
	}
	c.session = s
	return s, nil
}

// sharedSession is startSession for a key whose parent is not loaded.
func (c *Chip) sharedSession(parent parentID) (*tpm20.Session, error) {
	if c.session != nil && c.session.Alive() {
		return c.session, nil
	}
	err := c.withSaltKey(parent, func(salt *tpm20.Object) error {
		_, err := c.startSession(salt)
		return err
	})
	return c.session, err
}

// withSaltKey calls f with a loaded key to salt a session to: the parent, if that can be loaded
// without a secret and only this TPM has it, else a primary key of the null hierarchy.
func (c *Chip) withSaltKey(parent parentID, f func(salt *tpm20.Object) error) error {
	kept, ok, err := c.persistentSRKFor(parent)
	if err != nil {
		return err
	}
	if ok {
		parent = kept
	}
	if !isHierarchy(uint32(parent.handle)) {
		if object, err := c.readParent(parent); err == nil && !canSalt(object.Public) {
			parent = nullParent
		}
	}
	with := func(salt *loadedParent) error { return f(salt.Object) }
	err = c.withParent(parent, nil, with)
	// After a restart the primary key would have to be created, or the persistent parent was
	// removed.
	if parent != nullParent && (errors.Is(err, chip.ErrWrongSRKSecret) || errors.Is(err, chip.ErrNoParent)) {
		return c.withParent(nullParent, nil, with)
	}
	return err
}

// parentEntry returns the name of a primary key's cache entry.
func (c *Chip) parentEntry(id parentID) string {
	return c.cache.Name([]byte("primary"), binary.BigEndian.AppendUint32(nil, uint32(id.handle)), []byte{byte(id.primary)})
}

// noParentEntry returns the name of the cache entry that says that no parent fits a key.
func (c *Chip) noParentEntry(t *blob.TSS2) string {
	return c.cache.Name([]byte("no parent"), binary.BigEndian.AppendUint32(nil, t.Parent), t.Public, t.Private)
}

// knownNoParent reports whether another program has found that no parent fits a key. The entry
// refers to the context of the most likely parent, and is valid while the TPM loads that context.
func (c *Chip) knownNoParent(likeliest parentID, t *blob.TSS2) bool {
	recorded := c.cache.Read(c.noParentEntry(t))
	if len(recorded) != sha256.Size || !c.hasContext(likeliest) {
		return false
	}
	object, err := c.loadParent(likeliest, nil)
	if err != nil {
		return false
	}
	c.conn.Flush(object.Handle)
	return bytes.Equal(recorded, c.contextDigest(likeliest))
}

// recordNoParent writes the cache entry that says that no parent fits a key.
func (c *Chip) recordNoParent(likeliest parentID, t *blob.TSS2) {
	if digest := c.contextDigest(likeliest); digest != nil && likeliest.handle != tpm2.TPMRHNull {
		c.cache.Write(c.noParentEntry(t), digest)
	}
}

// contextDigest returns the digest of a parent's context, nil if there is no context.
func (c *Chip) contextDigest(id parentID) []byte {
	known := c.parents[id]
	if known == nil || known.context == nil {
		return nil
	}
	digest := sha256.Sum256(known.context)
	return digest[:]
}
