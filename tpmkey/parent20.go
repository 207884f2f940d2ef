package tpmkey

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
)

// A parentID names a parent: a persistent key, or a primary of a hierarchy.
type parentID struct {
	handle  tpm2.TPMHandle
	primary primary // for a hierarchy
}

// A parent20 is a parent that was in the TPM before.
type parent20 struct {
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
func (c *chip20) parentsOf(t *blob.TSS2) []parentID {
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
func (c *chip20) usualParents(t *blob.TSS2) int {
	if c.likelyParent(t).primary == primaryH2 {
		return 1
	}
	return 2
}

// likelyParent is the first of parentsOf.
func (c *chip20) likelyParent(t *blob.TSS2) parentID {
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
	return fileParent{tpm2.TPMHandle(cmp.Or(t.Parent, uint32(tpm2.TPMRHOwner))), t.RSAParent, t.OldPrimary()}
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
func (c *chip20) underParent(id parentID, srk authData, f func(parent *tpm20.Object, auth tpm2.Session) error) error {
	parent, err := c.bringParent(id, srk)
	if err != nil {
		return err
	}
	if !isHierarchy(uint32(id.handle)) {
		auth, err := c.parentAuth(parent, srk)
		if err == nil {
			err = f(parent, auth)
		}
		if err = c.parentLost(parent, err); c.classOf(err) == classRefused || c.classOf(err) == classLost {
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
func (c *chip20) parentLost(parent *tpm20.Object, err error) error {
	var code *tpm20.Error
	if !errors.As(err, &code) || code.Gone != parent.Handle {
		return err
	}
	return &parentGone{err}
}

// parentAuth is what authorizes the use of a persistent parent: an HMAC session that
// is salted to it, unless it has no secret.
func (c *chip20) parentAuth(parent *tpm20.Object, srk authData) (tpm2.Session, error) {
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
func (c *chip20) bringParent(id parentID, srk authData) (*tpm20.Object, error) {
	known := c.parents[id]
	if known != nil && known.context != nil {
		object, err := c.conn.LoadContext(known.context, known.object)
		if class := c.classOf(err); class != classRefused && class != classLost {
			return object, c.explainParent(err)
		}
		known.context = nil // of an earlier start of the TPM
	}
	if !isHierarchy(uint32(id.handle)) {
		return c.readParent(id)
	}
	entry := ""
	if len(srk) == 0 && id.handle != tpm2.TPMRHNull {
		entry = c.host.ofParent(id)
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
	if err != nil && c.classOf(err) != classRefused { // a chip that saves no contexts makes it anew
		err = c.parentLost(object, err)
		c.conn.Flush(object.Handle)
		return nil, c.explainParent(err)
	}
	c.parents[id] = &parent20{object, saved, entry == ""}
	if saved != nil {
		c.host.cache.Write(entry, saved)
	}
	return object, nil
}

// recallParent loads a primary from its context on disk. It is nil where that is not
// there, or not of this primary.
func (c *chip20) recallParent(id parentID, entry string) (*tpm20.Object, error) {
	saved := c.host.cache.Read(entry)
	if saved == nil {
		return nil, nil
	}
	object, err := c.recallObject(saved, func(o *tpm20.Object) bool { return o.MadeFrom(id.primary.template()) && o.PrimaryOf(id.handle) })
	switch class := c.classOf(err); {
	case errors.Is(err, errOtherContext):
		c.host.cache.Remove(entry)
	case class == classNone:
		if known := c.parents[id]; known != nil && !bytes.Equal(known.object.Name.Buffer, object.Name.Buffer) {
			return nil, errors.Join(errOtherParent, c.conn.Flush(object.Handle))
		}
		c.parents[id] = &parent20{object: object, context: saved}
	case class == classRefused, class == classLost:
		c.host.cache.Remove(entry)
		return nil, nil
	}
	return object, err
}

// hasContext reports whether a parent comes without being made, as far as is known: a
// persistent one that was read, or a primary whose context is at hand or on disk.
func (c *chip20) hasContext(id parentID) bool {
	if known := c.parents[id]; known != nil {
		return known.context != nil || !isHierarchy(uint32(id.handle))
	}
	return isHierarchy(uint32(id.handle)) && id.handle != tpm2.TPMRHNull && c.host.cache.Read(c.host.ofParent(id)) != nil
}

var errOtherParent = &refusal{ErrWrongTPM, "its primary key is another one than before: the TPM was cleared meanwhile, or is another one; open it anew", nil}

// readParent reads and checks a persistent parent. Where it is the one that was there
// before it is not checked again.
func (c *chip20) readParent(id parentID) (*tpm20.Object, error) {
	if known := c.parents[id]; known != nil {
		return known.object, nil
	}
	object, err := c.conn.ReadPublic(id.handle)
	if err != nil {
		if c.classOf(err) == classLost {
			return nil, &refusal{ErrNoParent, fmt.Sprintf("this TPM keeps no key at %#x; name another parent with -parent, or put one there with tpm2_evictcontrol", uint32(id.handle)), err}
		}
		return nil, c.explainParent(err)
	}
	if !isStorageKey(object.Public) {
		return nil, &refusal{ErrNoParent, fmt.Sprintf("what this TPM keeps at %#x is no storage key", uint32(id.handle)), nil}
	}
	c.parents[id] = &parent20{object: object}
	return object, nil
}

// isStorageKey reports whether a key is one that secrets may be encrypted for: only a
// TPM can open them, and it does not tell them.
func isStorageKey(area *tpm2.TPMTPublic) bool {
	a := area.ObjectAttributes
	return (area.Type == tpm2.TPMAlgRSA || area.Type == tpm2.TPMAlgECC) && a.Restricted && a.Decrypt && !a.SignEncrypt && a.FixedTPM && a.UserWithAuth
}

// createPrimary makes a primary key. tpm20 checks it against its template.
func (c *chip20) createPrimary(id parentID, srk authData) (*tpm20.Object, error) {
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
func (c *chip20) startSession(salt *tpm20.Object) (*tpm20.Session, error) {
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
func (c *chip20) sharedSession(parent parentID) (*tpm20.Session, error) {
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
func (c *chip20) salted(parent parentID, f func(salt *tpm20.Object) error) error {
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
	if parent != saltOnly && (errors.Is(err, ErrWrongSRKSecret) || errors.Is(err, ErrNoParent)) {
		return c.underParent(saltOnly, nil, with)
	}
	return err
}
