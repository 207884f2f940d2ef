package tpm12

import (
	"encoding/binary"
	"errors"
	"fmt"

	"maclef/internal/tpmconn"
)

// LoadKey2 loads key, a TPM_KEY or TPM_KEY12 structure, under parent, which
// secret authorizes, and returns its handle; FlushSpecific frees it. An error that
// is no *Error (the reply was lost) leaves open whether it was loaded. TPM Main
// Part 3, section 10.5 (TPM_LoadKey2).
func (c *Conn) LoadKey2(parent Handle, key []byte, secret *Secret) (Handle, error) {
	cmd := &command{ordinal: ordLoadKey2, handles: u32(uint32(parent)), params: key, outHandles: 4}
	b, rest, err := c.runAuthorized(cmd, secret)
	h, err := c.loadedHandle(cmd, resourceKey, b, rest, err)
	return Handle(h), err
}

// loadedHandle returns the handle in the reply to a command that loads a key or a session.
func (c *Conn) loadedHandle(cmd *command, resource uint32, handle, rest []byte, err error) (uint32, error) {
	if len(handle) == 0 {
		return 0, err
	}
	h := binary.BigEndian.Uint32(handle)
	if err == nil && len(rest) != 0 {
		err = cmd.untrusted("%d bytes after the handle", len(rest))
	}
	if err != nil {
		c.flush(h, resource) // nobody will know of it
		return 0, err
	}
	return h, nil
}

// FlushSpecific frees a loaded key, and ends the sessions opened for it. TPM Main
// Part 3, section 22.1 (TPM_FlushSpecific).
func (c *Conn) FlushSpecific(key Handle) error {
	err := c.flush(uint32(key), resourceKey)
	if err == nil || errors.Is(err, BadParameter) || errors.Is(err, InvalidKeyHandle) {
		c.Lost(key)
	}
	return err
}

// FlushSession frees an authorization session that is none of this Conn's: a
// leftover.
func (c *Conn) FlushSession(session uint32) error { return c.flush(session, resourceAuth) }

// flush asks twice where it is refused for another reason than that the handle is
// gone: what stays loaded takes one of few places until the TPM is restarted.
func (c *Conn) flush(handle, resource uint32) error {
	cmd := &command{ordinal: ordFlushSpecific, handles: u32(handle), params: u32(resource)}
	err := c.runPlain(cmd)
	var refused *Error
	if errors.As(err, &refused) && !goneAlready[refused.Code] {
		err = c.runPlain(cmd)
	}
	return err
}

// goneAlready are what a TPM says to flushing what it does not have.
var goneAlready = map[ResultCode]bool{BadParameter: true, InvalidKeyHandle: true, InvalidAuthHandle: true}

// Kinds of handles. TPM Main Part 2, section 4.1 (TPM_RESOURCE_TYPE).
const (
	resourceKey     = 1 // TPM_RT_KEY
	resourceAuth    = 2 // TPM_RT_AUTH
	resourceContext = 5 // TPM_RT_CONTEXT: a saved session
)

// Sign signs area, 1 to k-11 bytes for a key of k bytes with the DER scheme,
// exactly 20 for one with the SHA1 scheme, and returns the k bytes of the
// PKCS#1 v1.5 signature. TPM Main Part 3, section 13.5 (TPM_Sign).
func (c *Conn) Sign(key Handle, area []byte, auth Auth) ([]byte, error) {
	return c.transform(ordSign, key, area, auth)
}

// UnBind decrypts data, k bytes for a key of k bytes, and returns the
// plaintext. TPM Main Part 3, section 10.3 (TPM_UnBind).
func (c *Conn) UnBind(key Handle, data []byte, auth Auth) ([]byte, error) {
	return c.transform(ordUnBind, key, data, auth)
}

// UnBindLast is UnBind in a session that ends with it, whatever comes of it: what
// follows does not tell a good ciphertext from a bad one.
func (c *Conn) UnBindLast(key Handle, data []byte, auth Auth) ([]byte, error) {
	return c.transform(ordUnBind, key, data, lastUse{auth})
}

// transform sends sized data to a key and returns the sized data it answers.
func (c *Conn) transform(ord Ordinal, key Handle, data []byte, auth Auth) ([]byte, error) {
	c.params = binary.BigEndian.AppendUint32(c.params[:0], uint32(key))
	c.params = binary.BigEndian.AppendUint32(c.params, uint32(len(data)))
	c.params = append(c.params, data...)
	cmd := &command{ordinal: ord, handles: c.params[:4], params: c.params[4:]}
	_, out, err := c.runAuthorized(cmd, auth)
	if errors.Is(err, InvalidKeyHandle) {
		c.Lost(key)
	}
	if err != nil {
		return nil, err
	}
	return cmd.unsized(out)
}

// unsized returns the data of a length and as many bytes, and nothing else.
func (cmd *command) unsized(b []byte) ([]byte, error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) != uint64(len(b)-4) {
		return nil, cmd.untrusted("its length field does not fit its %d bytes of parameters", len(b))
	}
	return b[4:], nil
}

// CreateWrapKey makes the key that template, a TPM_KEY without modulus and
// encData, describes, and returns it wrapped by parent as a TPM_KEY. usage and
// migration are the new key's secrets (zero where it has none). TPM Main Part
// 3, section 10.4 (TPM_CreateWrapKey).
func (c *Conn) CreateWrapKey(parent Handle, parentSecret *Secret, template []byte, usage, migration *Secret) ([]byte, error) {
	s, err := c.osap(entityKeyHandle, uint32(parent), parentSecret)
	if err != nil {
		return nil, err
	}
	auth, err := newAuthorization(s, &s.shared, false)
	if err != nil {
		c.SessionEnded(s, tpmconn.Stale)
		return nil, err
	}
	params := adip(usage, &s.shared, &s.nonceEven)
	params = append(params, adip(migration, &s.shared, &auth.nonceOdd)...)
	params = append(params, template...)
	_, key, err := c.runOnce(&command{
		ordinal: ordCreateWrapKey, handles: u32(uint32(parent)), params: params, auth: auth,
	})
	return key, err
}

// entityKeyHandle is TPM_ET_KEYHANDLE, TPM Main Part 2, section 4.3
// (TPM_ENTITY_TYPE); in its high byte, 0 is TPM_ET_XOR: ADIP by XOR.
const entityKeyHandle = 0x0001

// GetPubKey returns the TPM_PUBKEY of a loaded key. TPM Main Part 3, section
// 10.6 (TPM_GetPubKey).
func (c *Conn) GetPubKey(key Handle, auth Auth) ([]byte, error) {
	_, pub, err := c.runAuthorized(&command{ordinal: ordGetPubKey, handles: u32(uint32(key))}, auth)
	return pub, err
}

// GetRandom returns 1 to n random bytes, as many as the TPM gives at once. TPM
// Main Part 3, section 13.6 (TPM_GetRandom).
func (c *Conn) GetRandom(n int) ([]byte, error) {
	cmd := &command{ordinal: ordGetRandom, params: u32(uint32(n))}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	data, err := cmd.unsized(out)
	if err == nil && (len(data) == 0 || len(data) > n) {
		return nil, cmd.untrusted("%d random bytes where %d were asked for", len(data), n)
	}
	return data, err
}

// String writes a handle as the specification does.
func (h Handle) String() string { return fmt.Sprintf("%#08x", uint32(h)) }
