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

// errBadReplyAuth is a reply whose HMAC is wrong: it did not come from the TPM
// that knows the secret, or was changed on its way.
var errBadReplyAuth = errors.New("its authorization (HMAC) is wrong: it was changed on its way, or does not come from this TPM")

// A session is an authorization session in the TPM, by the object-independent
// (OIAP) or the object-specific (OSAP) authorization protocol.
type session struct {
	handle    uint32
	nonceEven nonce // the TPM's newest
	rolled    bool  // it has authorized a command
	alive     bool
	key       Handle // what an OSAP session is for
	shared    Secret // an OSAP session's shared secret
}

// An authorization covers one command and its reply. nonceOdd is fixed when it
// is made, because CreateWrapKey's parameters depend on it.
type authorization struct {
	session  *session
	key      *Secret // the entity's secret (OIAP) or the session's shared secret (OSAP)
	nonceOdd nonce
	goOn     byte // continueAuthSession, asked for and then answered
}

func newAuthorization(s *session, key *Secret, goOn bool) (*authorization, error) {
	a := &authorization{session: s, key: key, goOn: boolean(goOn)[0]}
	_, err := rand.Read(a.nonceOdd[:])
	return a, err
}

// appendAuth appends the authorization of a command.
func (c *Conn) appendAuth(b []byte, a *authorization, ord Ordinal, params []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, a.session.handle)
	b = append(b, a.nonceOdd[:]...)
	b = append(b, a.goOn)
	digest := c.hash.digest(params, uint32(ord))
	return append(b, c.hash.authData(a.key, digest, &a.session.nonceEven, &a.nonceOdd, a.goOn)...)
}

// verify checks the end of an authorized reply against its parameters, and takes
// over the nonce in it. The 0 is the result code of a success.
func (c *Conn) verify(a *authorization, ord Ordinal, params, trailer []byte) error {
	even, goOn := (*nonce)(trailer), trailer[20]
	digest := c.hash.digest(params, 0, uint32(ord))
	if !hmac.Equal(trailer[21:], c.hash.authData(a.key, digest, even, &a.nonceOdd, goOn)) {
		return errBadReplyAuth
	}
	a.session.nonceEven, a.goOn = *even, goOn
	return nil
}

// oiap opens a session that authorizes with an entity's own secret. TPM Main
// Part 3, section 18.1 (TPM_OIAP).
func (c *Conn) oiap() (*session, error) {
	c.flushStale()
	cmd := &command{ordinal: ordOIAP}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	if len(out) != 24 {
		return nil, cmd.untrusted("%d bytes of parameters, not 24", len(out))
	}
	return c.opened(&session{handle: binary.BigEndian.Uint32(out), nonceEven: nonce(out[4:])}), nil
}

// osap opens a session bound to an entity, and to a secret that it shares with
// the TPM. A wrong secret is noticed when the session is used. TPM Main Part 3,
// section 18.2 (TPM_OSAP).
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
		return nil, cmd.untrusted("%d bytes of parameters, not 44", len(out))
	}
	s := &session{handle: binary.BigEndian.Uint32(out), nonceEven: nonce(out[4:]), key: Handle(entity)}
	copy(s.shared[:], c.hash.hmac(secret, out[24:44], nonceOdd[:])) // nonceEvenOSAP, nonceOddOSAP
	return c.opened(s), nil
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
