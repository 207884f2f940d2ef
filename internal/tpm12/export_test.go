package tpm12

// HMAC is the HMAC of authorizations.
func HMAC(key *Secret, parts ...[]byte) []byte {
	h := newHasher()
	h.hmac(&Secret{1, 2, 3}, []byte("something before"))
	return h.hmac(key, parts...)
}

// MarshalSign marshals an authorized TPM_Sign and checks a reply to it, for
// counting what that allocates.
func MarshalSign(c *Conn, area []byte, secret *Secret, reply []byte) {
	if c.rolling == nil {
		c.rolling = c.opened(new(session))
	}
	auth, err := secret.authorize(c)
	if err != nil {
		panic(err)
	}
	c.marshal(&command{ordinal: ordSign, handles: c.buf[:0], params: area, auth: auth})
	end := len(reply) - authReplySize
	c.verify(auth, ordSign, reply[:end], reply[end:])
}
