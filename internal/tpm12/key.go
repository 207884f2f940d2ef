package tpm12

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// LoadKey2 loads key, a TPM_KEY or TPM_KEY12 structure, under parent, which secret authorizes. It
// returns the key's handle; FlushSpecific frees it. After an error other than *Error the key may
// be loaded. TPM Main Part 3, section 10.5 (TPM_LoadKey2).
func (c *Conn) LoadKey2(parent Handle, key []byte, secret *Secret) (Handle, error) {
	cmd := &command{ordinal: ordLoadKey2, handles: u32(uint32(parent)), params: key, outHandles: 4}
	b, rest, err := c.runAuthorized(cmd, secret)
	h, err := c.loadedHandle(cmd, resourceKey, b, rest, err)
	return Handle(h), err
}

// loadedHandle returns the handle from the reply to a command that loads a key or a session.
func (c *Conn) loadedHandle(cmd *command, resource uint32, handle, rest []byte, err error) (uint32, error) {
	if len(handle) == 0 {
		return 0, err
	}
	h := binary.BigEndian.Uint32(handle)
	if err == nil && len(rest) != 0 {
		err = cmd.badReply("%d bytes after the handle", len(rest))
	}
	if err != nil {
		c.flush(h, resource) // the caller does not learn the handle
		return 0, err
	}
	return h, nil
}

// FlushSpecific frees a loaded key and ends its sessions. TPM Main Part 3, section 22.1
// (TPM_FlushSpecific).
func (c *Conn) FlushSpecific(key Handle) error {
	err := c.flush(uint32(key), resourceKey)
	if err == nil || errors.Is(err, BadParameter) || errors.Is(err, InvalidKeyHandle) {
		c.Lost(key)
	}
	return err
}

// FlushSession frees an authorization session that this Conn did not open.
func (c *Conn) FlushSession(session uint32) error { return c.flush(session, resourceAuth) }

// flush tries twice unless the TPM says that the handle is gone. A resource that stays loaded
// would take one of the TPM's few slots until the restart.
func (c *Conn) flush(handle, resource uint32) error {
	cmd := &command{ordinal: ordFlushSpecific, handles: u32(handle), params: u32(resource)}
	err := c.runPlain(cmd)
	var refused *Error
	if errors.As(err, &refused) && !goneAlready[refused.Code] {
		err = c.runPlain(cmd)
	}
	return err
}

// goneAlready are the result codes of TPM_FlushSpecific for a handle that the TPM does not have.
var goneAlready = map[ResultCode]bool{BadParameter: true, InvalidKeyHandle: true, InvalidAuthHandle: true}

// Kinds of handles. TPM Main Part 2, section 4.1 (TPM_RESOURCE_TYPE).
const (
	resourceKey     = 1 // TPM_RT_KEY
	resourceAuth    = 2 // TPM_RT_AUTH
	resourceContext = 5 // TPM_RT_CONTEXT: a saved session
)

// Sign signs area and returns the PKCS#1 v1.5 signature of k bytes for a key of k bytes. With the
// DER scheme, area has 1 to k-11 bytes; with the SHA1 scheme, exactly 20. TPM Main Part 3,
// section 13.5 (TPM_Sign).
func (c *Conn) Sign(key Handle, area []byte, auth Auth) ([]byte, error) {
	return c.runKeyCommand(ordSign, key, area, auth)
}

// UnBind decrypts data, which has k bytes for a key of k bytes, and returns the plaintext. TPM
// Main Part 3, section 10.3 (TPM_UnBind).
func (c *Conn) UnBind(key Handle, data []byte, auth Auth) ([]byte, error) {
	return c.runKeyCommand(ordUnBind, key, data, auth)
}

// UnBindLast is UnBind in a session that ends with the command, also if the command fails. So the
// commands that follow do not reveal whether the ciphertext was good.
func (c *Conn) UnBindLast(key Handle, data []byte, auth Auth) ([]byte, error) {
	return c.runKeyCommand(ordUnBind, key, data, lastUse{auth})
}

// runKeyCommand sends sized data for a key to use, and returns the reply's sized data.
func (c *Conn) runKeyCommand(ord Ordinal, key Handle, data []byte, auth Auth) ([]byte, error) {
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

// unsized checks that b is a length and exactly that many bytes, and returns those bytes.
func (cmd *command) unsized(b []byte) ([]byte, error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) != uint64(len(b)-4) {
		return nil, cmd.badReply("its length field does not fit its %d bytes of parameters", len(b))
	}
	return b[4:], nil
}

// CreateWrapKey creates the key that template describes, and returns it as a TPM_KEY encrypted
// with parent. template is a TPM_KEY without modulus and encData. usage and migration are the new
// key's secrets, zero for none. TPM Main Part 3, section 10.4 (TPM_CreateWrapKey).
func (c *Conn) CreateWrapKey(parent Handle, parentSecret *Secret, template []byte, usage, migration *Secret) ([]byte, error) {
	auth, err := c.osapOnce(parent, parentSecret)
	if err != nil {
		return nil, err
	}
	s := auth.session
	params := adip(usage, &s.shared, &s.nonceEven)
	params = append(params, adip(migration, &s.shared, &auth.nonceOdd)...)
	params = append(params, template...)
	_, key, err := c.runOnce(&command{
		ordinal: ordCreateWrapKey, handles: u32(uint32(parent)), params: params, auth: auth,
	})
	return key, err
}

// osapOnce opens a session for a key, and returns the authorization of its only command.
func (c *Conn) osapOnce(key Handle, secret *Secret) (*authorization, error) {
	s, err := c.osap(entityKeyHandle, uint32(key), secret)
	if err != nil {
		return nil, err
	}
	return c.once(s, &s.shared)
}

// entityKeyHandle is TPM_ET_KEYHANDLE. Its high byte, 0, selects the ADIP encryption TPM_ET_XOR.
// TPM Main Part 2, section 4.3 (TPM_ENTITY_TYPE).
const entityKeyHandle = 0x0001

// GetPubKey returns the TPM_PUBKEY of a loaded key. TPM Main Part 3, section
// 10.6 (TPM_GetPubKey).
func (c *Conn) GetPubKey(key Handle, auth Auth) ([]byte, error) {
	_, pub, err := c.runAuthorized(&command{ordinal: ordGetPubKey, handles: u32(uint32(key))}, auth)
	return pub, err
}

// GetRandom returns 1 to n random bytes; the TPM decides how many. TPM Main Part 3, section 13.6
// (TPM_GetRandom).
func (c *Conn) GetRandom(n int) ([]byte, error) {
	cmd := &command{ordinal: ordGetRandom, params: u32(uint32(n))}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	data, err := cmd.unsized(out)
	if err == nil && (len(data) == 0 || len(data) > n) {
		return nil, cmd.badReply("%d random bytes, expected up to %d", len(data), n)
	}
	return data, err
}

// String returns the handle in hexadecimal.
func (h Handle) String() string { return fmt.Sprintf("%#08x", uint32(h)) }
