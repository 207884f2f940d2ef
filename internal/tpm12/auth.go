package tpm12

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash"

	"maclef/internal/tpmconn"
)

// An Auth authorizes the use of a key: a *Secret by the rolling session, or a
// *KeySession. Nil, or a nil *Secret, sends the command without authorization, as
// keys with authDataUsage "never" demand.
type Auth interface {
	// authorize returns what authorizes the next command, nil for nothing.
	authorize(c *Conn) (*authorization, error)
}

// authorize authorizes by the rolling session, which it opens where there is none.
func (secret *Secret) authorize(c *Conn) (a *authorization, err error) {
	if secret == nil {
		return nil, nil
	}
	if c.rolling == nil {
		if c.rolling, err = c.oiap(); err != nil {
			return nil, err
		}
	}
	return newAuthorization(c.rolling, secret, c.keep || c.rolling.rolled)
}

// A lastUse ends the session that authorizes a command.
type lastUse struct{ Auth }

func (l lastUse) authorize(c *Conn) (*authorization, error) {
	if l.Auth == nil {
		return nil, nil
	}
	a, err := l.Auth.authorize(c)
	if a != nil {
		a.goOn = 0
	}
	return a, err
}

// ErrSessionEnded is the use of a KeySession that has ended.
var ErrSessionEnded = errors.New("the key's authorization session has ended")

// A KeySession is a session for one key, made by its secret and used without it:
// it authorizes until a command fails in it, or the key is flushed.
//
// FlushSpecific of the key ends it. Save takes it out of the TPM before; then Restore
// brings it back for the key, when that is loaded again.
type KeySession struct {
	conn  *Conn
	s     *session
	saved []byte // its context, nil while it is in the TPM
}

// OpenKeySession opens a session for a loaded key. secret is not kept; a wrong one
// shows when the session is used first, as TPM_AUTHFAIL. A TPM has few sessions
// (libtpms 16) for all its users; the next one is TPM_RESOURCES.
func (c *Conn) OpenKeySession(key Handle, secret *Secret) (*KeySession, error) {
	s, err := c.osap(entityKeyHandle, uint32(key), secret)
	if err != nil {
		return nil, err
	}
	return &KeySession{conn: c, s: s}, nil
}

// Alive reports whether the session is in the TPM and can be used, as far as is known.
func (k *KeySession) Alive() bool { return k != nil && k.s.alive }

// Saved reports whether the session is saved outside the TPM.
func (k *KeySession) Saved() bool { return k != nil && k.saved != nil }

// Context is the number by which SavedSessions lists a saved session.
func (k *KeySession) Context() uint32 {
	const at = 2 + 4 + 4 + 16 // tag, resourceType, handle, label: TPM Main Part 2, section 18.1 (TPM_CONTEXT_BLOB)
	if len(k.saved) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(k.saved[at:])
}

// Save takes the session out of the TPM, which keeps the number of its context: it can
// be restored once. TPM Main Part 3, section 21.2 (TPM_SaveContext).
func (k *KeySession) Save() (err error) {
	if !k.Alive() {
		return ErrSessionEnded
	}
	saved, err := k.conn.saveContext(k.s.handle, resourceAuth)
	if err != nil {
		if errors.Is(err, InvalidResource) { // somebody flushed it
			k.conn.SessionEnded(k.s, tpmconn.Gone)
		}
		return err
	}
	k.conn.SessionSaved(k.s)
	k.s.alive, k.saved = false, saved
	return nil
}

// Restore brings a saved session back, for its key, which is loaded. After an error other
// than want of room it is lost. TPM Main Part 3, section 21.3 (TPM_LoadContext).
func (k *KeySession) Restore(key Handle) error {
	if !k.Saved() {
		return ErrSessionEnded
	}
	k.conn.flushStale() // it may get the handle of one of these
	handle, err := k.conn.loadContext(uint32(key), resourceAuth, k.saved)
	switch {
	case errors.Is(err, Resources), errors.Is(err, ContextGap):
		return err
	case err != nil:
		k.Close()
		return err
	}
	k.saved = nil
	k.s.handle, k.s.key, k.s.alive = handle, key, true
	k.conn.SessionOpened(k.s)
	return nil
}

// Close ends the session. It sends nothing: the next session that is opened, or
// EndSessions or EndRolling, frees this one in the TPM, unless it is saved.
func (k *KeySession) Close() {
	if k.Alive() {
		k.conn.SessionEnded(k.s, tpmconn.Stale)
	}
	if k.Saved() {
		clear(k.s.shared[:])
		k.saved = nil
	}
}

func (k *KeySession) authorize(*Conn) (*authorization, error) {
	if !k.Alive() {
		return nil, ErrSessionEnded
	}
	return newAuthorization(k.s, &k.s.shared, true)
}

// A hasher computes SHA-1 and HMAC-SHA-1 (RFC 2104) again and again. crypto/hmac
// would do, but it leaves the key behind in memory, and allocates on each use.
type hasher struct {
	sha1 hash.Hash
	pad  *[sha1.BlockSize]byte
	out  *[3 * sha1.Size]byte // digest of parameters, result, scratch
}

func newHasher() hasher {
	return hasher{sha1: sha1.New(), pad: new([sha1.BlockSize]byte), out: new([3 * sha1.Size]byte)}
}

// digest returns SHA-1 of numbers and parameters, valid until the next call.
func (h *hasher) digest(params []byte, numbers ...uint32) []byte {
	scratch := h.out[2*sha1.Size:]
	h.sha1.Reset()
	for _, n := range numbers {
		binary.BigEndian.PutUint32(scratch, n)
		h.sha1.Write(scratch[:4])
	}
	h.sha1.Write(params)
	return h.sha1.Sum(h.out[:0:sha1.Size])
}

// authData returns the HMAC of an authorization, valid until the next call. TPM
// Main Part 1, "Object-Independent Authorization Protocol".
func (h *hasher) authData(key *Secret, paramDigest []byte, even, odd *nonce, goOn byte) []byte {
	scratch := h.out[2*sha1.Size:]
	scratch[0] = goOn
	return h.hmac(key, paramDigest, even[:], odd[:], scratch[:1])
}

// hmac returns the HMAC of some parts, valid until the next call.
func (h *hasher) hmac(key *Secret, parts ...[]byte) []byte {
	h.start(key, 0x36)
	for _, part := range parts {
		h.sha1.Write(part)
	}
	sum := h.sha1.Sum(h.out[sha1.Size : sha1.Size : 2*sha1.Size])
	h.start(key, 0x5c)
	h.sha1.Write(sum)
	sum = h.sha1.Sum(sum[:0])
	h.sha1.Reset()
	clear(h.pad[:])
	return sum
}

// start begins with the key, padded to a block of pad.
func (h *hasher) start(key *Secret, pad byte) {
	for i := range h.pad {
		h.pad[i] = pad
	}
	for i := range key {
		h.pad[i] ^= key[i]
	}
	h.sha1.Reset()
	h.sha1.Write(h.pad[:])
}
