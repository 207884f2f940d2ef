package tpm12

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash"

	"maclef/internal/tpmconn"
)

// An Auth authorizes the use of a key. It is a *Secret, which authorizes in the rolling session,
// or a *KeySession. With nil or a nil *Secret the command is sent without authorization, which is
// what keys with authDataUsage "never" require.
type Auth interface {
	// authorize returns the authorization of the next command, nil if the command has none.
	authorize(c *Conn) (*authorization, error)
}

// authorize uses the rolling session and opens it if there is none.
func (secret *Secret) authorize(c *Conn) (a *authorization, err error) {
	if secret == nil {
		return nil, nil
	}
	if c.rolling == nil {
		if c.rolling, err = c.oiap(); err != nil {
			return nil, err
		}
	}
	return newAuthorization(c.rolling, secret, c.keep || c.rolling.used)
}

// A lastUse authorizes a command that ends its session.
type lastUse struct{ Auth }

func (l lastUse) authorize(c *Conn) (*authorization, error) {
	if l.Auth == nil {
		return nil, nil
	}
	a, err := l.Auth.authorize(c)
	if a != nil {
		a.continueSession = 0
	}
	return a, err
}

// ErrSessionEnded means that a KeySession was used after it had ended.
var ErrSessionEnded = errors.New("the key's authorization session has ended")

// A KeySession is an authorization session for one key (TPM_OSAP). The key's secret is needed to
// open it, not to use it. It ends when a command in it fails, when the key is flushed, and with
// Close.
//
// FlushSpecific of the key also ends its sessions. To keep a session, call Save before, and
// Restore after the key is loaded again.
type KeySession struct {
	conn  *Conn
	s     *session
	saved []byte // the saved context, nil while the session is in the TPM
}

// OpenKeySession opens a session for a loaded key. It does not keep secret. If secret is wrong,
// the first use of the session fails with TPM_AUTHFAIL. All users of a TPM share its few sessions
// (libtpms has 16); if none is free, the error is TPM_RESOURCES.
func (c *Conn) OpenKeySession(key Handle, secret *Secret) (*KeySession, error) {
	s, err := c.osap(entityKeyHandle, uint32(key), secret)
	if err != nil {
		return nil, err
	}
	return &KeySession{conn: c, s: s}, nil
}

// Alive reports whether the session is in the TPM and can be used, as far as this Conn knows.
func (k *KeySession) Alive() bool { return k != nil && k.s.alive }

// Saved reports whether the session is saved outside the TPM.
func (k *KeySession) Saved() bool { return k != nil && k.saved != nil }

// Context returns the number by which SavedSessions lists a saved session.
func (k *KeySession) Context() uint32 {
	const at = 2 + 4 + 4 + 16 // tag, resourceType, handle, label: TPM Main Part 2, section 18.1 (TPM_CONTEXT_BLOB)
	if len(k.saved) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(k.saved[at:])
}

// Save removes the session from the TPM. The saved session can be restored once. TPM Main Part 3,
// section 21.2 (TPM_SaveContext).
func (k *KeySession) Save() (err error) {
	if !k.Alive() {
		return ErrSessionEnded
	}
	saved, err := k.conn.saveContext(k.s.handle, resourceAuth)
	if err != nil {
		if errors.Is(err, InvalidResource) { // somebody else flushed the session
			k.conn.SessionEnded(k.s, tpmconn.Gone)
		}
		return err
	}
	k.conn.SessionSaved(k.s)
	k.s.alive, k.saved = false, saved
	return nil
}

// Restore loads a saved session for its key, which must be loaded. After an error other than
// Resources or ContextGap the session is lost. TPM Main Part 3, section 21.3 (TPM_LoadContext).
func (k *KeySession) Restore(key Handle) error {
	if !k.Saved() {
		return ErrSessionEnded
	}
	k.conn.flushStale() // the restored session may get the handle of a stale one
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

// Close ends the session. It sends nothing: EndSessions, EndRolling or the opening of another
// session flushes it later. A saved session stays in the TPM's list of saved sessions.
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

// A hasher computes SHA-1 and HMAC-SHA-1 (RFC 2104) without allocating. crypto/hmac allocates on
// each use, and leaves a copy of the key in memory.
type hasher struct {
	sha1 hash.Hash
	pad  *[sha1.BlockSize]byte
	out  *[3 * sha1.Size]byte // digest of parameters, result, scratch
}

func newHasher() hasher {
	return hasher{sha1: sha1.New(), pad: new([sha1.BlockSize]byte), out: new([3 * sha1.Size]byte)}
}

// digest returns SHA-1 of the numbers, then the parameters. The result is valid until the next
// call.
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

// authData returns the HMAC of an authorization, which is valid until the next call. TPM Main
// Part 1, "Object-Independent Authorization Protocol".
func (h *hasher) authData(key *Secret, paramDigest []byte, even, odd *nonce, continueSession byte) []byte {
	scratch := h.out[2*sha1.Size:]
	scratch[0] = continueSession
	return h.hmac(key, paramDigest, even[:], odd[:], scratch[:1])
}

// hmac returns the HMAC of the parts, which is valid until the next call.
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

// start resets the hash and writes the key XORed with a block of pad bytes.
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
