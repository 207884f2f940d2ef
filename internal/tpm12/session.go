package tpm12

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"errors"
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

// errBadReplyAuth means that the reply's HMAC is wrong.
var errBadReplyAuth = errors.New("its authorization (HMAC) is wrong: it was changed on its way, or does not come from this TPM")

// A session is an authorization session in the TPM, opened with the object-independent (OIAP) or
// the object-specific (OSAP) authorization protocol.
type session struct {
	handle    uint32
	nonceEven nonce // the newest one from the TPM
	used      bool  // it has authorized at least one command
	alive     bool
	key       Handle // the key of an OSAP session
	shared    Secret // the shared secret of an OSAP session
}

// An authorization covers one command and its reply. nonceOdd is created with it, because the
// parameters of TPM_CreateWrapKey depend on it.
type authorization struct {
	session         *session
	key             *Secret // the entity's secret (OIAP) or the session's shared secret (OSAP)
	nonceOdd        nonce
	continueSession byte // continueAuthSession of the command, then of the reply
}

func newAuthorization(s *session, key *Secret, continueSession bool) (*authorization, error) {
	a := &authorization{session: s, key: key, continueSession: boolean(continueSession)[0]}
	_, err := rand.Read(a.nonceOdd[:])
	return a, err
}

// appendAuth appends the authorization trailer of a command.
func (c *Conn) appendAuth(b []byte, a *authorization, ord Ordinal, params []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, a.session.handle)
	b = append(b, a.nonceOdd[:]...)
	b = append(b, a.continueSession)
	digest := c.hash.digest(params, uint32(ord))
	return append(b, c.hash.authData(a.key, digest, &a.session.nonceEven, &a.nonceOdd, a.continueSession)...)
}

// verify checks the HMAC of a reply to an authorized command, and stores the new nonceEven. The 0
// in the digest is the result code TPM_SUCCESS.
func (c *Conn) verify(a *authorization, ord Ordinal, params, trailer []byte) error {
	even, continueSession := (*nonce)(trailer), trailer[20]
	digest := c.hash.digest(params, 0, uint32(ord))
	if !hmac.Equal(trailer[21:], c.hash.authData(a.key, digest, even, &a.nonceOdd, continueSession)) {
		return errBadReplyAuth
	}
	a.session.nonceEven, a.continueSession = *even, continueSession
	return nil
}

// oiap opens a session that authorizes with an entity's own secret. TPM Main Part 3, section 18.1
// (TPM_OIAP).
func (c *Conn) oiap() (*session, error) {
	c.flushStale()
	cmd := &command{ordinal: ordOIAP}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	if len(out) != 24 {
		return nil, cmd.badReply("%d bytes of parameters, not 24", len(out))
	}
	return c.opened(&session{handle: binary.BigEndian.Uint32(out), nonceEven: nonce(out[4:])}), nil
}

// osap opens a session for one entity. Its shared secret is derived from the entity's secret. If
// secret is wrong, the first use of the session fails. TPM Main Part 3, section 18.2 (TPM_OSAP).
func (c *Conn) osap(entityType uint16, entity uint32, secret *Secret) (*session, error) {
	c.flushStale()
	var nonceOdd nonce
	if _, err := rand.Read(nonceOdd[:]); err != nil {
		return nil, err
	}
	params := binary.BigEndian.AppendUint16(nil, entityType)
	params = binary.BigEndian.AppendUint32(params, entity)
	params = append(params, nonceOdd[:]...)
	cmd := &command{ordinal: ordOSAP, params: params}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	if len(out) != 44 {
		return nil, cmd.badReply("%d bytes of parameters, not 44", len(out))
	}
	s := &session{handle: binary.BigEndian.Uint32(out), nonceEven: nonce(out[4:]), key: Handle(entity)}
	copy(s.shared[:], c.hash.hmac(secret, out[24:44], nonceOdd[:])) // nonceEvenOSAP, nonceOddOSAP
	return c.opened(s), nil
}

// adip encrypts a new secret for the TPM with the authorization data insertion protocol: XOR with
// SHA-1 of the OSAP shared secret and a nonce.
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
