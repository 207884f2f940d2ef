package tpmkey

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
)

// A loadedKey12 is a key in a TPM 1.2.
type loadedKey12 struct {
	chip    *chip12
	handle  tpm12.Handle
	size    int               // of its modulus, in bytes
	session *tpm12.KeySession // nil where the secret is at hand for each command
}

func (c *chip12) load(k *blob.Key, srk authData) (loadedKey, error) {
	if err := c.readLockoutLately(); err != nil {
		return nil, c.explain(err, nil)
	}
	if k.NeedsSecret() {
		c.conn.Keep(true) // the session that loads it authorizes its use, too
	}
	before := c.lockout
	c.lockoutRead = time.Time{}
	handle, err := c.conn.LoadKey2(tpm12.SRK, k.Bytes(), secret12(srk))
	if err != nil {
		return nil, c.explainLoad(err, before)
	}
	return &loadedKey12{chip: c, handle: handle, size: k.RSAPublicKey().Size()}, nil
}

func (c *chip12) restore(was loadedKey, context []byte) (loadedKey, error) {
	handle, err := c.conn.LoadContext(context)
	if err != nil {
		return nil, c.explain(err, nil)
	}
	return &loadedKey12{chip: c, handle: handle, size: was.(*loadedKey12).size}, nil
}

// recall reads the public key of what it loads: that takes no secret where the key has none.
func (c *chip12) recall(k *blob.Key, context []byte) (loadedKey, error) {
	if !tpm12.IsKeyContext(context) {
		return nil, &refusal{ErrUnloaded, "the context on disk is of no key", nil}
	}
	in, err := c.restore(&loadedKey12{size: k.RSAPublicKey().Size()}, context)
	if err != nil {
		return nil, err
	}
	pub, err := c.conn.GetPubKey(in.(*loadedKey12).handle, nil)
	var refused *tpm12.Error
	public, damaged := blob.ParsePubKey(pub)
	if err == nil && (damaged != nil || !public.Equal(k.RSAPublicKey())) || errors.As(err, &refused) {
		c.conn.Drop() // the handle may be garbled: what is loaded is not known
		return nil, errOtherContext
	}
	if err != nil {
		return nil, c.explain(err, nil)
	}
	return in, nil
}

func (k *loadedKey12) ofSecret() bool { return false } // who gave none for it knew the SRK's

func (k *loadedKey12) number() uint32 { return uint32(k.handle) }

// auth is what authorizes a command for the key.
func (k *loadedKey12) auth(key authData) tpm12.Auth {
	if k.session != nil {
		return k.session
	}
	return secret12(key)
}

func (k *loadedKey12) authorize(key authData) (keySession, error) {
	session, err := k.chip.conn.OpenKeySession(k.handle, secret12(key))
	if err != nil {
		return nil, k.chip.explain(err, nil)
	}
	k.session = session
	return session, nil
}

func (k *loadedKey12) resume(s keySession) error {
	k.session = s.(*tpm12.KeySession)
	return k.chip.explain(k.session.Restore(k.handle), nil)
}

func (k *loadedKey12) sign(s *signing, key authData) ([]byte, error) {
	sig, err := k.chip.conn.Sign(k.handle, s.area, k.auth(key))
	return sig, k.chip.explain(err, ErrWrongKeySecret)
}

func (k *loadedKey12) decrypt(d *decryption, key authData) ([]byte, error) {
	unbind := k.chip.conn.UnBind
	if d.sessionKeyLen > 0 { // a bad ciphertext ends the session; the next operation must not tell
		unbind = k.chip.conn.UnBindLast
	}
	plain, err := unbind(k.handle, d.ciphertext, k.auth(key))
	var refused *tpm12.Error
	if errors.As(err, &refused) && badCiphertext12[refused.Code] {
		return nil, errDecryption
	}
	if err == nil && len(plain) > k.size-11 {
		return nil, errors.New("the TPM returned more plaintext than fits: the chip or its connection is faulty")
	}
	return plain, k.chip.explain(err, ErrWrongKeySecret)
}

func (k *loadedKey12) agree([]byte, authData) ([]byte, error) { return nil, errAgree12 }
func (k *loadedKey12) unseal(authData) ([]byte, error)        { return nil, errSeal12 }

// badCiphertext12 are what TPM_UnBind says of padding, of the TPM_BOUND_DATA in
// it, and of too little in it. Callers cannot tell them apart: who could learn
// about the padding, could decrypt.
var badCiphertext12 = map[tpm12.ResultCode]bool{
	tpm12.DecryptError: true, tpm12.BadVersion: true, tpm12.BadParamSize: true,
	tpm12.InvalidStructure: true, tpm12.BadDataSize: true,
}

func (k *loadedKey12) save() ([]byte, error) {
	context, err := k.chip.conn.SaveContext(k.handle)
	return context, k.chip.explain(err, nil)
}

func (k *loadedKey12) flush() error { return k.chip.flushKey(uint32(k.handle)) }

func (c *chip12) flushKey(handle uint32) error {
	err := c.conn.FlushSpecific(tpm12.Handle(handle))
	switch {
	case errors.Is(err, tpm12.BadParameter), errors.Is(err, tpm12.InvalidKeyHandle): // gone already
		return nil
	case errors.Is(err, tpm12.KeyOwnerControl): // the owner wants it to stay
		return nil
	}
	return c.explain(err, nil)
}

func (c *chip12) flushSession(handle uint32) error {
	err := c.conn.FlushSession(handle)
	if errors.Is(err, tpm12.InvalidAuthHandle) { // gone already, perhaps with its key
		return nil
	}
	return c.explain(err, nil)
}

func (c *chip12) occupants() (keys, sessions []uint32, err error) {
	handles, err := c.conn.LoadedKeys()
	if err != nil {
		return nil, nil, c.explain(err, nil)
	}
	for _, h := range handles {
		keys = append(keys, uint32(h))
	}
	sessions, err = c.conn.Sessions()
	return keys, sessions, c.explain(err, nil)
}

func (c *chip12) saved() ([]uint32, error) {
	numbers, err := c.conn.SavedSessions()
	return numbers, c.explain(err, nil)
}

func (c *chip12) flushSaved(number uint32) error { return c.explain(c.conn.FlushSaved(number), nil) }
