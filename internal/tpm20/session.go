package tpm20

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmconn"
)

// nonceSize is that of nonceCaller, and so of nonceTPM: the least there is. Part
// 3, section 11.1 (TPM2_StartAuthSession).
const nonceSize = 16

// ErrSessionEnded is the use of a Session that has ended.
var ErrSessionEnded = errors.New("the authorization session has ended")

// A Session is an authorization session in the TPM, of SHA-256 but for policies of
// keys that have names by another hash, with AES-128-CFB for parameters. It goes on
// until it is closed, or something goes wrong in it that leaves its nonces in doubt; a
// refusal does not.
type Session struct {
	conn     *Conn
	handle   tpm2.TPMHandle
	hash     crypto.Hash
	policy   bool
	key      []byte // sessionKey, empty for a session neither salted nor bound
	nonceTPM []byte // its newest

	bound     []byte // the name of the entity that it is bound to, nil for none
	boundAuth bool   // that has an auth value

	alive    bool
	saved    []byte // its context, nil while it is in the TPM
	needAuth bool   // PolicyAuthValue was run in it
	ran      bool   // a policy was, since it authorized last
}

// StartHMAC starts a session that authorizes with auth values. Its key is known to
// who has salt's private part or, where it is bound, bindAuth, bind's auth value,
// which is not kept: the session authorizes bind without it. A wrong one shows when
// the session is used first. Either may be nil; without both the session proves
// who knows an auth value, and hides nothing. Part 1, section 19.6.
func (c *Conn) StartHMAC(salt, bind *Object, bindAuth []byte) (*Session, error) {
	return c.start(&Session{hash: crypto.SHA256}, tpm2.TPMSEHMAC, tpm2.TPMAlgSHA256, salt, bind, bindAuth)
}

// StartPolicy starts a session for policies of keys whose names are by a hash
// algorithm; the TPM wants both alike.
func (c *Conn) StartPolicy(alg tpm2.TPMIAlgHash, salt *Object) (*Session, error) {
	hash, err := alg.Hash()
	if err != nil || !hash.Available() {
		return nil, fmt.Errorf("hash algorithm %#04x is none of SHA-1, SHA-256, SHA-384, SHA-512", uint16(alg))
	}
	return c.start(&Session{policy: true, hash: hash}, tpm2.TPMSEPolicy, alg, salt, nil, nil)
}

// start is Part 3, section 11.1 (TPM2_StartAuthSession).
func (c *Conn) start(s *Session, kind tpm2.TPMSE, alg tpm2.TPMIAlgHash, salt, bind *Object, bindAuth []byte) (*Session, error) {
	c.flushStale()
	cmd := tpm2.StartAuthSession{
		TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, SessionType: kind, AuthHash: alg,
		NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, nonceSize)},
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(aesBits)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
	}
	if _, err := rand.Read(cmd.NonceCaller.Buffer); err != nil {
		return nil, err
	}
	const longestSalt = 64
	seed := make([]byte, 0, len(bindAuth)+longestSalt) // authValue of the bind entity, then the salt
	seed = append(seed, trim(bindAuth)...)
	if bind != nil {
		cmd.Bind = bind.Handle
		s.bound, s.boundAuth = bind.Name.Buffer, len(seed) > 0
	}
	if salt != nil {
		plain, encrypted, err := newSalt(salt)
		if err != nil {
			return nil, err
		}
		cmd.TPMKey, cmd.EncryptedSalt.Buffer = salt.Handle, encrypted
		seed = append(seed, plain...)
		clear(plain)
	}
	err := c.opened(s, cmd)
	if err == nil && (salt != nil || bind != nil) {
		s.key = tpm2.KDFa(s.hash, seed, "ATH", s.nonceTPM, cmd.NonceCaller.Buffer, 8*s.hash.Size())
	}
	clear(seed)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) opened(s *Session, cmd tpm2.StartAuthSession) error {
	rsp, err := Run(c, cmd)
	if err != nil {
		return err
	}
	s.conn, s.handle, s.nonceTPM, s.alive = c, tpm2.TPMHandle(rsp.SessionHandle.HandleValue()), rsp.NonceTPM.Buffer, true
	kind := tpm2.TPMHandle(hmacSession)
	if s.policy {
		kind = policySession
	}
	c.vanished(s.handle) // the TPM does not have an older session of this handle any more
	if s.handle>>24 != kind || len(s.nonceTPM) != nonceSize {
		return c.unanswered(false, malformed(tpm2.TPMCCStartAuthSession, "a session %#08x with a nonce of %d bytes", s.handle, len(s.nonceTPM)))
	}
	c.SessionOpened(s)
	return nil
}

// newSalt returns a random salt, and how it is sent to the TPM that has the object's
// private part. Part 1, appendixes B.10 and C.6.
func newSalt(o *Object) (plain, encrypted []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("salt a session: %v", r)
		}
	}()
	if err := o.check(); err != nil {
		return nil, nil, fmt.Errorf("salt a session: %w", err)
	}
	key, err := tpm2.ImportEncapsulationKey(o.Public)
	if err != nil {
		return nil, nil, fmt.Errorf("salt a session: %w", err)
	}
	plain, encrypted, err = tpm2.CreateEncryptedSalt(rand.Reader, key)
	if err != nil {
		return nil, nil, fmt.Errorf("salt a session: %w", err)
	}
	return plain, encrypted, nil
}

// Handle is what policy commands call the session by.
func (s *Session) Handle() tpm2.TPMHandle { return s.handle }

// Hash is the session's hash algorithm.
func (s *Session) Hash() crypto.Hash { return s.hash }

// Extend is Handle for a command that changes the digest of a policy session.
func (s *Session) Extend() (tpm2.TPMHandle, error) {
	if !s.Alive() {
		return 0, ErrSessionEnded
	}
	s.ran = true
	return s.handle, nil
}

// Restart makes a policy session as one that was just opened. It sends nothing where
// no policy was run since it authorized last. Part 3, section 11.2 (TPM2_PolicyRestart).
func (s *Session) Restart() error {
	if s.ran {
		if !s.Alive() {
			return ErrSessionEnded
		}
		out, err := s.conn.plain(tpm2.TPMCCPolicyRestart, handleBytes(s.handle))
		if err == nil && len(out) != 0 {
			err = s.conn.unanswered(false, malformed(tpm2.TPMCCPolicyRestart, "%d bytes of parameters where none belong", len(out)))
		}
		if err != nil {
			return err
		}
	}
	s.ran, s.needAuth = false, false
	return nil
}

// Nonce is the session's newest nonceTPM, which a PolicySigned is signed with.
func (s *Session) Nonce() []byte { return bytes.Clone(s.nonceTPM) }

// NeedAuthValue says that PolicyAuthValue was run in a policy session: the next
// command it authorizes proves the auth value. It is what to run for a policy that
// has PolicyPassword, too: both make the same digest (Part 3, section 23.18), and
// this one keeps the password off the bus.
func (s *Session) NeedAuthValue() { s.needAuth = true }

// Alive reports whether the session is in the TPM and can be used, as far as is known.
func (s *Session) Alive() bool { return s != nil && s.alive }

// Saved reports whether the session is saved outside the TPM.
func (s *Session) Saved() bool { return s != nil && s.saved != nil }

// Save takes the session out of the TPM, which keeps its number: it can be restored once.
// Part 3, section 28.2 (TPM2_ContextSave).
func (s *Session) Save() error {
	if !s.Alive() {
		return ErrSessionEnded
	}
	saved, err := s.conn.SaveContext(&Object{Handle: s.handle})
	if err != nil {
		return err
	}
	s.conn.SessionSaved(s)
	s.alive, s.saved = false, saved
	return nil
}

// Restore brings a saved session back. After an error other than want of room it is
// lost. Part 3, section 28.3 (TPM2_ContextLoad).
func (s *Session) Restore() error {
	if !s.Saved() {
		return ErrSessionEnded
	}
	handle, err := s.conn.loadContext(s.saved)
	if err == nil && handle != s.handle {
		err = s.conn.unanswered(false, malformed(tpm2.TPMCCContextLoad, "the session %#08x came back as %#08x", s.handle, handle))
	}
	switch {
	case errors.Is(err, tpm2.TPMRCSessionMemory), errors.Is(err, tpm2.TPMRCContextGap):
		return err
	case err != nil:
		s.Close()
		return err
	}
	s.alive, s.saved = true, nil
	s.conn.SessionOpened(s)
	return nil
}

// Context is the number by which Handles lists a saved session.
func (s *Session) Context() uint32 { return hmacSession<<24 | uint32(s.handle)&0xffffff } // of a policy's session, too

// Close ends the session. It sends nothing: the next session that is started, or
// EndSessions, frees this one in the TPM, unless it is saved.
func (s *Session) Close() {
	if s.Alive() {
		s.conn.SessionEnded(s, tpmconn.Stale)
	}
	if s.Saved() {
		clear(s.key)
		s.saved = nil
	}
}

// trim removes the trailing zeros of an auth value: the TPM keeps none. Part 1,
// section 19.6.5, note 2.
func trim(auth []byte) []byte { return bytes.TrimRight(auth, "\x00") }

// EndSessions frees every session of this Conn that is, or may be, open, but for
// those to keep; what cannot be freed for want of a connection is tried again next
// time.
func (c *Conn) EndSessions(keep ...*Session) {
	for s := range c.Open() {
		if !slices.Contains(keep, s) {
			s.Close()
		}
	}
	c.flushStale()
}

// EndShared is EndSessions for those that are not bound to one key.
func (c *Conn) EndShared() {
	var keep []*Session
	for s := range c.Open() {
		if s.bound != nil {
			keep = append(keep, s)
		}
	}
	c.EndSessions(keep...)
}

// end is called when the session is not used any more.
func (s *Session) end() {
	s.alive = false
	clear(s.key)
}

// flushStale frees the sessions that may be open still.
func (c *Conn) flushStale() {
	c.FlushStale(func(handle uint32) bool {
		err := c.Flush(tpm2.TPMHandle(handle))
		return err == nil || isRefusal(err) && busy(err) == tpmconn.NotBusy
	})
}
