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

// nonceSize is the size of nonceCaller and nonceTPM. 16 bytes is the smallest size that the
// specification allows. TPM 2.0 Library Part 3, section 11.1 (TPM2_StartAuthSession).
const nonceSize = 16

// ErrSessionEnded means that a Session was used after it had ended.
var ErrSessionEnded = errors.New("the authorization session has ended")

// A Session is an authorization session in the TPM. It uses AES-128-CFB to encrypt parameters,
// and SHA-256, or for a policy session the hash algorithm of the key's name. It ends with Close,
// or when its nonces are uncertain because a reply was lost. A command that the TPM refuses does
// not end it.
type Session struct {
	conn     *Conn
	handle   tpm2.TPMHandle
	hash     crypto.Hash
	policy   bool
	key      []byte // sessionKey, empty if the session is neither salted nor bound
	nonceTPM []byte // the newest one

	bound     []byte // the name of the entity that the session is bound to, nil for none
	boundAuth bool   // that entity has an auth value

	alive     bool
	saved     []byte // the saved context, nil while the session is in the TPM
	needAuth  bool   // PolicyAuthValue was run
	policyRan bool   // a policy command was run since the session last authorized a command
}

// StartHMAC starts an HMAC session. If salt is set, the session is salted: only the owner of
// salt's private key can compute its session key. If bind is set, the session is bound to that
// object, whose auth value is bindAuth: it then authorizes bind without the auth value, and
// StartHMAC does not keep bindAuth. If bindAuth is wrong, the first use of the session fails.
// salt and bind may be nil. A session without both must not encrypt secrets, because everybody
// can compute its key. TPM 2.0 Library Part 1, section 19.6.
func (c *Conn) StartHMAC(salt, bind *Object, bindAuth []byte) (*Session, error) {
	return c.start(&Session{hash: crypto.SHA256}, tpm2.TPMSEHMAC, tpm2.TPMAlgSHA256, salt, bind, bindAuth)
}

// StartPolicy starts a policy session. alg must be the hash algorithm of the key's name.
func (c *Conn) StartPolicy(alg tpm2.TPMIAlgHash, salt *Object) (*Session, error) {
	hash, err := alg.Hash()
	if err != nil || !hash.Available() {
		return nil, fmt.Errorf("hash algorithm %#04x is none of SHA-1, SHA-256, SHA-384, SHA-512", uint16(alg))
	}
	return c.start(&Session{policy: true, hash: hash}, tpm2.TPMSEPolicy, alg, salt, nil, nil)
}

// start starts a session. TPM 2.0 Library Part 3, section 11.1 (TPM2_StartAuthSession).
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
	seed := make([]byte, 0, len(bindAuth)+longestSalt) // auth value of the bind entity, then the salt
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
	c.handleGone(s.handle) // the TPM has reused the handle of an older session
	if s.handle>>24 != kind || len(s.nonceTPM) != nonceSize {
		return c.unanswered(false, malformed(tpm2.TPMCCStartAuthSession, "a session %#08x with a nonce of %d bytes", s.handle, len(s.nonceTPM)))
	}
	c.SessionOpened(s)
	return nil
}

// newSalt returns a random salt, plain and encrypted with the object's public key. TPM 2.0
// Library Part 1, appendixes B.10 and C.6.
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

// Handle returns the session's handle, for policy commands.
func (s *Session) Handle() tpm2.TPMHandle { return s.handle }

// Hash is the session's hash algorithm.
func (s *Session) Hash() crypto.Hash { return s.hash }

// Extend returns the handle for a command that changes the session's policyDigest.
func (s *Session) Extend() (tpm2.TPMHandle, error) {
	if !s.Alive() {
		return 0, ErrSessionEnded
	}
	s.policyRan = true
	return s.handle, nil
}

// Restart resets a policy session to its initial state. It sends nothing if no policy command was
// run since the session last authorized a command. TPM 2.0 Library Part 3, section 11.2
// (TPM2_PolicyRestart).
func (s *Session) Restart() error {
	if s.policyRan {
		if !s.Alive() {
			return ErrSessionEnded
		}
		out, err := s.conn.runPlain(tpm2.TPMCCPolicyRestart, handleBytes(s.handle))
		if err == nil && len(out) != 0 {
			err = s.conn.unanswered(false, malformed(tpm2.TPMCCPolicyRestart, "%d bytes of parameters, expected none", len(out)))
		}
		if err != nil {
			return err
		}
	}
	s.policyRan, s.needAuth = false, false
	return nil
}

// Nonce returns the session's newest nonceTPM, which a PolicySigned signature covers.
func (s *Session) Nonce() []byte { return bytes.Clone(s.nonceTPM) }

// NeedAuthValue records that PolicyAuthValue was run in a policy session, so the next command
// must prove the auth value. A policy with PolicyPassword can run PolicyAuthValue instead: both
// give the same digest (TPM 2.0 Library Part 3, section 23.18), and the password is not sent in
// clear.
func (s *Session) NeedAuthValue() { s.needAuth = true }

// Alive reports whether the session is in the TPM and can be used, as far as this Conn knows.
func (s *Session) Alive() bool { return s != nil && s.alive }

// Saved reports whether the session is saved outside the TPM.
func (s *Session) Saved() bool { return s != nil && s.saved != nil }

// Save removes the session from the TPM. The saved session can be restored once. TPM 2.0 Library
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

// Restore loads a saved session. After an error other than TPM_RC_SESSION_MEMORY or
// TPM_RC_CONTEXT_GAP the session is lost. TPM 2.0 Library Part 3, section 28.3
// (TPM2_ContextLoad).
func (s *Session) Restore() error {
	if !s.Saved() {
		return ErrSessionEnded
	}
	handle, err := s.conn.loadContext(s.saved)
	if err == nil && handle != s.handle {
		err = s.conn.unanswered(false, malformed(tpm2.TPMCCContextLoad, "session %#08x was restored as %#08x", s.handle, handle))
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

// Context returns the number by which Handles lists a saved session, which is the same for policy
// sessions.
func (s *Session) Context() uint32 { return hmacSession<<24 | uint32(s.handle)&0xffffff }

// Close ends the session. It sends nothing: EndSessions or the start of another session flushes
// it later. A saved session stays in the TPM's list of saved sessions.
func (s *Session) Close() {
	if s.Alive() {
		s.conn.SessionEnded(s, tpmconn.Stale)
	}
	if s.Saved() {
		clear(s.key)
		s.saved = nil
	}
}

// trim removes the trailing zeros of an auth value, as the TPM does. TPM 2.0 Library Part 1,
// section 19.6.5, note 2.
func trim(auth []byte) []byte { return bytes.TrimRight(auth, "\x00") }

// EndSessions flushes every session of this Conn that is or may be open, except keep. What cannot
// be flushed because the connection is lost is tried again at the next call.
func (c *Conn) EndSessions(keep ...*Session) {
	for s := range c.Open() {
		if !slices.Contains(keep, s) {
			s.Close()
		}
	}
	c.flushStale()
}

// EndShared is EndSessions, except that it keeps the sessions that are bound to a key.
func (c *Conn) EndShared() {
	var keep []*Session
	for s := range c.Open() {
		if s.bound != nil {
			keep = append(keep, s)
		}
	}
	c.EndSessions(keep...)
}

// end is called once for each session, when it is no longer used.
func (s *Session) end() {
	s.alive = false
	clear(s.key)
}

// flushStale flushes the sessions that are no longer used but may be open.
func (c *Conn) flushStale() {
	c.FlushStale(func(handle uint32) bool {
		err := c.Flush(tpm2.TPMHandle(handle))
		return err == nil || isErrorReply(err) && busy(err) == tpmconn.NotBusy
	})
}
