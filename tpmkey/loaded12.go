package tpmkey

import (
	"crypto"
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
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
		if err := c.prepareSecrets(); err != nil {
			return nil, err
		}
	}
	before := c.lockout
	c.lockoutRead = time.Time{}
	epoch, err := c.dev.Connected()
	if err != nil {
		return nil, err
	}
	handle, err := c.conn.LoadKey2(tpm12.SRK, k.Bytes(), secret12(srk))
	if err != nil {
		c.missed(k, err)
		return nil, c.explainLoad(err, before, epoch)
	}
	return &loadedKey12{chip: c, handle: handle, size: k.RSAPublicKey().Size()}, nil
}

// prepareSecrets lets the session that loads a key with a secret go on, and notes
// what is loaded before it, so that a key can be found whose handle was lost.
func (c *chip12) prepareSecrets() error {
	c.conn.Keep(true)
	keys, err := c.conn.LoadedKeys()
	if err != nil {
		return c.explain(err, nil)
	}
	c.before = make(map[tpm12.Handle]bool)
	for _, key := range keys {
		c.before[key] = true
	}
	return nil
}

func (c *chip12) restore(k *blob.Key, context []byte) (loadedKey, error) {
	handle, err := c.conn.LoadContext(context)
	if err != nil {
		c.missed(k, err)
		return nil, c.explain(err, nil)
	}
	return &loadedKey12{chip: c, handle: handle, size: k.RSAPublicKey().Size()}, nil
}

// missed notes that a key, or the session that authorizes loading it, may be in the
// TPM without anybody knowing its handle.
func (c *chip12) missed(k *blob.Key, err error) {
	if cond := c.condition(err); cond == noReply || cond == noReplyToSecret {
		c.misplaced(k)
	}
}

func (c *chip12) misplaced(k *blob.Key) { c.lost, c.lostSession = k, true }
func (c *chip12) misplacedSession()     { c.lostSession = true }

// reclaim frees a key that was loaded, but whose handle was lost with the reply.
// It is one that nobody claims, and has the key's modulus; where the TPM does not
// tell that without a secret, it was not there before. Sessions that nobody claims
// are freed, too: nothing tells whose they are.
func (c *chip12) reclaim(claimed func(kind byte, handle uint32) bool) error {
	if !c.lostSession {
		return nil
	}
	keys, sessions, err := c.occupants()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if c.lost != nil && !claimed(transport.ClaimKey, key) && c.isLost(tpm12.Handle(key)) {
			err = errors.Join(err, c.flushKey(key))
		}
	}
	for _, session := range sessions {
		if !claimed(transport.ClaimSession, session) {
			err = errors.Join(err, c.flushSession(session))
		}
	}
	if err == nil || c.condition(err) == refused {
		c.lost, c.lostSession = nil, false
		return nil
	}
	return err
}

func (c *chip12) isLost(key tpm12.Handle) bool {
	raw, err := c.conn.GetPubKey(key, nil)
	if err != nil {
		return c.condition(err) == refused && c.before != nil && !c.before[key]
	}
	public, err := blob.ParsePubKey(raw)
	return err == nil && public.Equal(c.lost.RSAPublicKey())
}

func (k *loadedKey12) isStill(public crypto.PublicKey) bool {
	raw, err := k.chip.conn.GetPubKey(k.handle, nil)
	if err != nil {
		return k.chip.condition(err) != keyGone
	}
	now, err := blob.ParsePubKey(raw)
	return err != nil || now.Equal(public)
}

func (k *loadedKey12) number() uint32 { return uint32(k.handle) }

// auth is what authorizes a command for the key.
func (k *loadedKey12) auth(key authData) tpm12.Auth {
	if k.session != nil {
		return k.session
	}
	return secret12(key)
}

func (k *loadedKey12) authorize(key authData) (err error) {
	k.session, err = k.chip.conn.OpenKeySession(k.handle, secret12(key))
	return k.chip.explain(err, nil)
}

func (k *loadedKey12) authorized() bool { return k.session.Alive() }

func (k *loadedKey12) sign(s *signing, key authData) ([]byte, error) {
	sig, err := k.chip.conn.Sign(k.handle, s.area, k.auth(key))
	return sig, k.chip.explain(err, ErrWrongKeySecret)
}

func (k *loadedKey12) decrypt(d *decryption, key authData) ([]byte, error) {
	plain, err := k.chip.conn.UnBind(k.handle, d.ciphertext, k.auth(key))
	if d.sessionKeyLen > 0 { // a bad ciphertext ends the session; the next operation must not tell
		k.chip.endSessions()
	}
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

// flush does not mind that the key is gone already: the TPM was restarted, or
// somebody flushed it.
func (k *loadedKey12) flush() error {
	return k.chip.flushKey(uint32(k.handle))
}

func (k *loadedKey12) abandon() {
	if k.session != nil {
		k.session.Close()
	}
	k.chip.conn.Lost(k.handle)
}

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
