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

// A parentID names a parent: a persistent key, or a primary of a hierarchy.
type parentID struct {
	handle  tpm2.TPMHandle
	primary primary // for a hierarchy
}

// A knownParent is a parent that was in the TPM before.
type knownParent struct {
	object *tpm20.Object
	// context brings a primary back that was made already.
	context []byte
	// secret says that the hierarchy's secret was needed to make it.
	secret bool
}

// isHierarchy reports whether a parent's handle is that of a hierarchy, whose primary
// key is meant. TPM 2.0 Library Part 2, section 7.4 (TPM_RH).
func isHierarchy(handle uint32) bool { return handle>>24 == 0x40 }

// parentsOf are the parents that a key file may mean, the likeliest first, or the one
// that fitted before.
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

// usualParents is how many of parentsOf are tried without a word: the one that the file's
// form suggests, and primaryH2.
func (c *Chip) usualParents(t *blob.TSS2) int {
	if c.likelyParent(t).primary == primaryH2 {
		return 1
	}
	return 2
}

// likelyParent is the first of parentsOf.
func (c *Chip) likelyParent(t *blob.TSS2) parentID {
	in := parentIn(t)
	if fits, ok := c.fitting[in]; ok {
		return fits
	}
	if !isHierarchy(uint32(in.handle)) {
		return parentID{handle: in.handle}
	}
	return parentID{in.handle, in.likeliest()}
}

// fileParent is what a file says of its parent.
type fileParent struct {
	handle   tpm2.TPMHandle
	rsa, old bool
}

func parentIn(t *blob.TSS2) fileParent {
	old := t.Container() == blob.TSS2BlobPEM || t.Container() == blob.TSS2BlobDER
	return fileParent{tpm2.TPMHandle(cmp.Or(t.Parent, uint32(tpm2.TPMRHOwner))), t.RSAParent, old}
}

// likeliest is the primary that a file means, as far as it says that.
func (f fileParent) likeliest() primary {
	switch {
	case f.old:
		return primaryOld
	case f.rsa:
		return primaryH1
	}
	return primaryH2
}

// underParent runs f with a parent in the TPM and what authorizes its use. A primary
// is taken out again: there are few places. srk is the secret of a persistent parent,
// or of the hierarchy.
func (c *Chip) underParent(id parentID, srk chip.AuthData, f func(parent *tpm20.Object, auth tpm2.Session) error) error {
	parent, err := c.bringParent(id, srk)
	if err != nil {
		return err
	}
	if !isHierarchy(uint32(id.handle)) {
		auth, err := c.parentAuth(parent, srk)
		if err == nil {
			err = f(parent, auth)
		}
		if err = c.parentLost(parent, err); c.ClassOf(err) == chip.ClassRefused || c.ClassOf(err) == chip.ClassLost {
			delete(c.parents, id) // it may be another key by now
		}
		return err
	}
	// A primary of ours has no secret: whoever may make it may use it. What was done with
	// it is done all the same where it cannot be taken out; then the connection is gone.
	err = c.parentLost(parent, f(parent, nil))
	c.conn.Flush(parent.Handle)
	return err
}

// A parentGone is a parent that the TPM does not know any more, while it was in use.
type parentGone struct{ error }

func (e *parentGone) Unwrap() error { return e.error }

// parentLost tells the loss of a parent from that of a key. If its handle was garbled,
// the parent is there still.
func (c *Chip) parentLost(parent *tpm20.Object, err error) error {
	var code *tpm20.Error
	if !errors.As(err, &code) || code.Gone != parent.Handle {
		return err
	}
	return &parentGone{err}
}

// parentAuth is what authorizes the use of a persistent parent: an HMAC session that
// is salted to it, unless it has no secret.
func (c *Chip) parentAuth(parent *tpm20.Object, srk chip.AuthData) (tpm2.Session, error) {
	if len(srk) == 0 {
		return nil, nil
	}
	c.uncounted = parent.Public.ObjectAttributes.NoDA
	if !c.uncounted {
		if err := c.readLockout(); err != nil {
			return nil, c.explain(err, nil)
		}
		if c.lockout.locked {
			return nil, c.lockedOut()
		}
	}
	s, err := c.startSession(parent)
	if err != nil {
		return nil, err
	}
	return s.For(srk, 0), nil
}

// bringParent returns a parent that is in the TPM: a persistent one, or a primary
// that was made now or before.
func (c *Chip) bringParent(id parentID, srk chip.AuthData) (*tpm20.Object, error) {
	known := c.parents[id]
	if known != nil && known.context != nil {
		object, err := c.conn.LoadContext(known.context, known.object)
		if class := c.ClassOf(err); class != chip.ClassRefused && class != chip.ClassLost {
			return object, c.explainParent(err)
		}
		known.context = nil // of an earlier start of the TPM
	}
	if !isHierarchy(uint32(id.handle)) {
		return c.readParent(id)
	}
	entry := ""
	if len(srk) == 0 && id.handle != tpm2.TPMRHNull {
		entry = c.nameOfParent(id)
	}
	if object, err := c.recallParent(id, entry); object != nil || err != nil {
		return object, c.explainParent(err)
	}
	object, err := c.createPrimary(id, srk)
	if err != nil {
		return nil, c.explainParent(err)
	}
	if known != nil && id.handle != tpm2.TPMRHNull && !bytes.Equal(known.object.Name.Buffer, object.Name.Buffer) {
		// Somebody has cleared the TPM, or it is another one, or none. The keys of the one
		// before are of no use with it, and their secrets are not told to it.
		return nil, errors.Join(errOtherParent, c.conn.Flush(object.Handle))
	}
	saved, err := c.conn.SaveContext(object)
	if err != nil && c.ClassOf(err) != chip.ClassRefused { // a chip that saves no contexts makes it anew
		err = c.parentLost(object, err)
		c.conn.Flush(object.Handle)
		return nil, c.explainParent(err)
	}
	c.parents[id] = &knownParent{object, saved, entry == ""}
	if saved != nil {
		c.cache.Write(entry, saved)
	}
	return object, nil
}

// recallParent loads a primary from its context on disk. It is nil where that is not
// there, or not of this primary.
func (c *Chip) recallParent(id parentID, entry string) (*tpm20.Object, error) {
	saved := c.cache.Read(entry)
	if saved == nil {
		return nil, nil
	}
	object, err := c.recallObject(saved, func(o *tpm20.Object) bool { return o.MadeFrom(id.primary.template()) && o.PrimaryOf(id.handle) })
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

// hasContext reports whether a parent comes without being made, as far as is known: a
// persistent one that was read, or a primary whose context is at hand or on disk.
func (c *Chip) hasContext(id parentID) bool {
	if known := c.parents[id]; known != nil {
		return known.context != nil || !isHierarchy(uint32(id.handle))
	}
	return isHierarchy(uint32(id.handle)) && id.handle != tpm2.TPMRHNull && c.cache.Read(c.nameOfParent(id)) != nil
}

var errOtherParent = chip.OfKind(chip.ErrWrongTPM, "its primary key is another one than before: the TPM was cleared meanwhile, or is another one; open it anew", nil)

// readParent reads and checks a persistent parent. Where it is the one that was there
// before it is not checked again.
func (c *Chip) readParent(id parentID) (*tpm20.Object, error) {
	if known := c.parents[id]; known != nil {
		return known.object, nil
	}
	object, err := c.conn.ReadPublic(id.handle)
	if err != nil {
		if c.ClassOf(err) == chip.ClassLost {
			return nil, chip.OfKind(chip.ErrNoParent, fmt.Sprintf("this TPM keeps no key at %#x, where the parent should be", uint32(id.handle)), err)
		}
		return nil, c.explainParent(err)
	}
	if !isStorageKey(object.Public) {
		return nil, chip.OfKind(chip.ErrNoParent, fmt.Sprintf("what this TPM keeps at %#x is no storage key", uint32(id.handle)), nil)
	}
	c.parents[id] = &knownParent{object: object}
	return object, nil
}

// isStorageKey reports whether a key is one that secrets may be encrypted for: only a
// TPM can open them, and it does not tell them.
func isStorageKey(area *tpm2.TPMTPublic) bool {
	a := area.ObjectAttributes
	return (area.Type == tpm2.TPMAlgRSA || area.Type == tpm2.TPMAlgECC) && a.Restricted && a.Decrypt && !a.SignEncrypt && a.FixedTPM && a.UserWithAuth
}

// createPrimary makes a primary key. tpm20 checks it against its template.
func (c *Chip) createPrimary(id parentID, srk chip.AuthData) (*tpm20.Object, error) {
	if len(srk) == 0 || id.handle == tpm2.TPMRHNull {
		return c.conn.CreatePrimary(id.handle, nil, id.primary.template())
	}
	c.uncounted = true
	// The hierarchy's secret goes through a session that is salted to a primary of the
	// null hierarchy, which nobody needs a secret for.
	var object *tpm20.Object
	err := c.underParent(saltOnly, nil, func(salt *tpm20.Object, _ tpm2.Session) error {
		s, err := c.startSession(salt)
		if err == nil {
			object, err = c.conn.CreatePrimary(id.handle, s.For(srk, tpm20.EncryptIn), id.primary.template())
		}
		return err
	})
	return object, err
}

// saltOnly is a primary key for sessions, where there is no parent.
var saltOnly = parentID{handle: tpm2.TPMRHNull, primary: primaryH2}

// startSession returns the session that serves all keys, a new one salted to a key
// that is in the TPM now unless there is one.
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

// sharedSession is startSession for a key whose parent is not in the TPM now.
func (c *Chip) sharedSession(parent parentID) (*tpm20.Session, error) {
	if c.session != nil && c.session.Alive() {
		return c.session, nil
	}
	err := c.salted(parent, func(salt *tpm20.Object) error {
		_, err := c.startSession(salt)
		return err
	})
	return c.session, err
}

// salted runs f with a key to salt a session to: the parent, where it can be had
// without a secret, else a primary of the null hierarchy.
func (c *Chip) salted(parent parentID, f func(salt *tpm20.Object) error) error {
	kept, ok, err := c.keptFor(parent)
	if err != nil {
		return err
	}
	if ok {
		parent = kept
	}
	with := func(salt *tpm20.Object, _ tpm2.Session) error { return f(salt) }
	err = c.underParent(parent, nil, with)
	// The TPM was restarted, and the primary would have to be made; or nobody keeps the
	// parent any more.
	if parent != saltOnly && (errors.Is(err, chip.ErrWrongSRKSecret) || errors.Is(err, chip.ErrNoParent)) {
		return c.underParent(saltOnly, nil, with)
	}
	return err
}

// nameOfParent is the name of the entry of a primary in the cache.
func (c *Chip) nameOfParent(id parentID) string {
	return c.cache.Name([]byte("primary"), binary.BigEndian.AppendUint32(nil, uint32(id.handle)), []byte{byte(id.primary)})
}

// nameOfUnfit is the name of the entry which says that no parent fits a key.
func (c *Chip) nameOfUnfit(t *blob.TSS2) string {
	return c.cache.Name([]byte("no parent"), binary.BigEndian.AppendUint32(nil, t.Parent), t.Public, t.Private)
}

// knownUnfit reports whether another program has found that no parent fits a key. That was
// noted with the context of the likeliest one, and holds as long as the TPM loads that.
func (c *Chip) knownUnfit(likeliest parentID, t *blob.TSS2) bool {
	noted := c.cache.Read(c.nameOfUnfit(t))
	if len(noted) != sha256.Size || !c.hasContext(likeliest) {
		return false
	}
	object, err := c.bringParent(likeliest, nil)
	if err != nil {
		return false
	}
	c.conn.Flush(object.Handle)
	return bytes.Equal(noted, c.markOf(likeliest))
}

// noteUnfit notes that no parent fits a key.
func (c *Chip) noteUnfit(likeliest parentID, t *blob.TSS2) {
	if mark := c.markOf(likeliest); mark != nil && likeliest.handle != tpm2.TPMRHNull {
		c.cache.Write(c.nameOfUnfit(t), mark)
	}
}

// markOf stands for a parent's context, nil where there is none.
func (c *Chip) markOf(id parentID) []byte {
	known := c.parents[id]
	if known == nil || known.context == nil {
		return nil
	}
	mark := sha256.Sum256(known.context)
	return mark[:]
}
