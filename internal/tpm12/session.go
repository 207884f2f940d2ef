package tpm12

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
)

// A Secret is 20 bytes of authorization data. TPM Main Part 2, section 5.6
// (TPM_SECRET).
type Secret [sha1.Size]byte

// A nonce is TPM Main Part 2, section 5.5 (TPM_NONCE).
type nonce [sha1.Size]byte

const (
	authRequestSize = 4 + 20 + 1 + 20 // authHandle, nonceOdd, continueAuthSession, inAuth
	authReplySize   = 20 + 1 + 20     // nonceEven, continueAuthSession, resAuth
)

// errBadReplyAuth is a reply whose HMAC is wrong: it did not come from the TPM
// that knows the secret, or was changed on its way.
var errBadReplyAuth = errors.New("its authorization (HMAC) is wrong: it was changed on its way, or does not come from this TPM")

// A session is an authorization session in the TPM, by the object-independent
// (OIAP) or the object-specific (OSAP) authorization protocol.
type session struct {
	handle    uint32
	nonceEven nonce
}

// An authorization covers one command and its reply. nonceOdd is fixed when it
// is made, because CreateWrapKey's parameters depend on it.
type authorization struct {
	session  *session
	key      Secret // the entity's secret (OIAP) or the session's shared secret (OSAP)
	nonceOdd nonce
}

func newAuthorization(s *session, key *Secret) (*authorization, error) {
	a := &authorization{session: s, key: *key}
	_, err := rand.Read(a.nonceOdd[:])
	return a, err
}

// noContinue is continueAuthSession: each session serves one command here.
const noContinue = 0

func (a *authorization) appendTo(b []byte, ord Ordinal, params []byte) []byte {
	h := sha1.New()
	h.Write(u32(uint32(ord)))
	h.Write(params)
	b = binary.BigEndian.AppendUint32(b, a.session.handle)
	b = append(b, a.nonceOdd[:]...)
	b = append(b, noContinue)
	return append(b, a.mac(h.Sum(nil), noContinue)...)
}

// verify checks the end of an authorized reply against its parameters.
func (a *authorization) verify(ord Ordinal, params, trailer []byte) error {
	copy(a.session.nonceEven[:], trailer)
	h := sha1.New()
	h.Write(u32(0)) // the result code of a success
	h.Write(u32(uint32(ord)))
	h.Write(params)
	if !hmac.Equal(trailer[21:], a.mac(h.Sum(nil), trailer[20])) {
		return errBadReplyAuth
	}
	return nil
}

func (a *authorization) mac(paramDigest []byte, continueSession byte) []byte {
	m := hmac.New(sha1.New, a.key[:])
	m.Write(paramDigest)
	m.Write(a.session.nonceEven[:])
	m.Write(a.nonceOdd[:])
	m.Write([]byte{continueSession})
	return m.Sum(nil)
}

// oiap opens a session that authorizes with an entity's own secret. TPM Main
// Part 3, section 18.1 (TPM_OIAP).
func (c *Conn) oiap() (*session, error) {
	_, out, err := c.run(&command{ordinal: ordOIAP})
	if err != nil {
		return nil, err
	}
	if len(out) != 24 {
		return nil, fmt.Errorf("TPM_OIAP: malformed reply: %d bytes of parameters, not 24", len(out))
	}
	s := &session{handle: binary.BigEndian.Uint32(out)}
	copy(s.nonceEven[:], out[4:])
	return s, nil
}

// osap opens a session bound to an entity and returns the secret that it
// shares with the TPM. TPM Main Part 3, section 18.2 (TPM_OSAP).
func (c *Conn) osap(entityType uint16, entity uint32, secret *Secret) (*session, *Secret, error) {
	var nonceOdd nonce
	if _, err := rand.Read(nonceOdd[:]); err != nil {
		return nil, nil, err
	}
	params := binary.BigEndian.AppendUint16(nil, entityType)
	params = binary.BigEndian.AppendUint32(params, entity)
	params = append(params, nonceOdd[:]...)
	_, out, err := c.run(&command{ordinal: ordOSAP, params: params})
	if err != nil {
		return nil, nil, err
	}
	if len(out) != 44 {
		return nil, nil, fmt.Errorf("TPM_OSAP: malformed reply: %d bytes of parameters, not 44", len(out))
	}
	s := &session{handle: binary.BigEndian.Uint32(out)}
	copy(s.nonceEven[:], out[4:24])
	m := hmac.New(sha1.New, secret[:])
	m.Write(out[24:44]) // nonceEvenOSAP
	m.Write(nonceOdd[:])
	shared := new(Secret)
	m.Sum(shared[:0])
	return s, shared, nil
}

// authorize sets cmd's authorization by an OIAP session of its own; a nil
// secret leaves the command without one.
func (c *Conn) authorize(cmd *command, secret *Secret) error {
	if secret == nil {
		return nil
	}
	s, err := c.oiap()
	if err != nil {
		return err
	}
	cmd.auth, err = newAuthorization(s, secret)
	return err
}

// runAuthorized runs cmd, authorized by secret where there is one.
func (c *Conn) runAuthorized(cmd *command, secret *Secret) (handles, params []byte, err error) {
	if err := c.authorize(cmd, secret); err != nil {
		return nil, nil, err
	}
	if cmd.auth != nil {
		defer clear(cmd.auth.key[:])
	}
	return c.runInSession(cmd)
}

// runInSession runs cmd. The TPM ends its session with it, except where it
// refuses before it looks at the authorization (locked out, disabled, no SRK):
// then the session would stay, and there are few.
func (c *Conn) runInSession(cmd *command) (handles, params []byte, err error) {
	handles, params, err = c.run(cmd)
	var refused *Error
	if cmd.auth != nil && errors.As(err, &refused) {
		c.flush(cmd.auth.session.handle, resourceAuth) // an error: it was ended
	}
	return handles, params, err
}

// runPlain runs a command without authorization and without reply parameters.
func (c *Conn) runPlain(cmd *command) error {
	_, out, err := c.run(cmd)
	if err == nil && len(out) != 0 {
		return cmd.malformed("%d bytes of parameters where none belong", len(out))
	}
	return err
}

// adip hides a new secret on its way to the TPM by the authorization data
// insertion protocol: XOR with SHA-1 of the OSAP shared secret and a nonce.
func adip(secret, shared *Secret, n *nonce) []byte {
	h := sha1.New()
	h.Write(shared[:])
	h.Write(n[:])
	pad := h.Sum(nil)
	for i := range pad {
		pad[i] ^= secret[i]
	}
	return pad
}
