package chip12

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// A loadedKey is a key in a TPM 1.2.
type loadedKey struct {
	chip    *Chip
	handle  tpm12.Handle
	size    int               // of its modulus, in bytes
	session *tpm12.KeySession // nil where the secret is at hand for each command
}

// Load implements chip.Chip, for a key that Use takes. Part 3, section 10.5 (TPM_LoadKey2).
func (c *Chip) Load(file blob.Key, srk chip.AuthData) (chip.LoadedKey, error) {
	k := file.(*blob.TPMKey)
	if err := c.readLockoutLately(); err != nil {
		return nil, c.explain(err, nil)
	}
	if k.NeedsSecret() {
		c.conn.Keep(true) // the session that loads it authorizes its use, too
	}
	before := c.lockout
	c.lockoutRead = time.Time{}
	handle, err := c.conn.LoadKey2(tpm12.SRK, k.Bytes(), secretOf(srk))
	if err != nil {
		return nil, c.explainLoad(err, before)
	}
	return &loadedKey{chip: c, handle: handle, size: len(k.Modulus)}, nil
}

// Restore implements chip.Chip. Part 3, section 21.3 (TPM_LoadContext).
func (c *Chip) Restore(file blob.Key, was chip.LoadedKey, context []byte) (chip.LoadedKey, error) {
	if was == nil && !tpm12.IsKeyContext(context) {
		return nil, chip.OfKind(chip.ErrUnloaded, "the context on disk is of no key", nil)
	}
	handle, err := c.conn.LoadContext(context)
	if err != nil {
		return nil, c.explain(err, nil)
	}
	k := file.(*blob.TPMKey)
	in := &loadedKey{chip: c, handle: handle, size: len(k.Modulus)}
	if was == nil {
		return c.checkRestored(k, in)
	}
	return in, nil
}

// checkRestored reads the public key of what came from disk: that takes no secret where
// the key has none.
func (c *Chip) checkRestored(k *blob.TPMKey, in *loadedKey) (chip.LoadedKey, error) {
	pub, err := c.conn.GetPubKey(in.handle, nil)
	var refused *tpm12.Error
	public, damaged := blob.ParsePubKey(pub)
	if err == nil && (damaged != nil || !public.Equal(k.PublicKey())) || errors.As(err, &refused) {
		c.conn.Drop() // the handle may be garbled: what is loaded is not known
		return nil, chip.ErrOtherContext
	}
	if err != nil {
		return nil, c.explain(err, nil)
	}
	return in, nil
}

// Handle implements chip.LoadedKey.
func (k *loadedKey) Handle() uint32 { return uint32(k.handle) }

// auth is what authorizes a command for the key.
func (k *loadedKey) auth(key chip.AuthData) tpm12.Auth {
	if k.session != nil {
		return k.session
	}
	return secretOf(key)
}

// Authorize implements chip.LoadedKey.
func (k *loadedKey) Authorize(key chip.AuthData) (chip.Session, error) {
	session, err := k.chip.conn.OpenKeySession(k.handle, secretOf(key))
	if err != nil {
		return nil, k.chip.explain(err, nil)
	}
	k.session = session
	return keySession{session}, nil
}

// A keySession is a session as chip.Session.
type keySession struct{ *tpm12.KeySession }

// State implements chip.Session.
func (s keySession) State() (chip.SessionState, uint32) {
	switch {
	case s.Alive():
		return chip.SessionLoaded, 0
	case s.Saved():
		return chip.SessionSaved, s.Context()
	}
	return chip.SessionGone, 0
}

// Resume implements chip.LoadedKey.
func (k *loadedKey) Resume(s chip.Session) error {
	k.session = s.(keySession).KeySession
	return k.chip.explain(k.session.Restore(k.handle), nil)
}

// sign is Part 3, section 13.5 (TPM_Sign).
func (k *loadedKey) sign(area []byte, key chip.AuthData) ([]byte, error) {
	sig, err := k.chip.conn.Sign(k.handle, area, k.auth(key))
	return sig, k.chip.explain(err, chip.ErrWrongKeySecret)
}

// decrypt is Part 3, section 10.3 (TPM_UnBind); sessionKey says that nobody may learn from
// it what was wrong with the ciphertext.
func (k *loadedKey) decrypt(ciphertext []byte, sessionKey bool, key chip.AuthData) ([]byte, error) {
	unbind := k.chip.conn.UnBind
	if sessionKey { // a bad ciphertext ends the session; the next operation must not tell
		unbind = k.chip.conn.UnBindLast
	}
	plain, err := unbind(k.handle, ciphertext, k.auth(key))
	var refused *tpm12.Error
	if errors.As(err, &refused) && badCiphertext[refused.Code] {
		return nil, chip.ErrDecryption
	}
	if err == nil && len(plain) > k.size-11 {
		return nil, errors.New("the TPM returned more plaintext than fits: the chip or its connection is faulty")
	}
	return plain, k.chip.explain(err, chip.ErrWrongKeySecret)
}

// badCiphertext are what TPM_UnBind says of padding, of the TPM_BOUND_DATA in
// it, and of too little in it. Callers cannot tell them apart: who could learn
// about the padding, could decrypt.
var badCiphertext = map[tpm12.ResultCode]bool{
	tpm12.DecryptError: true, tpm12.BadVersion: true, tpm12.BadParamSize: true,
	tpm12.InvalidStructure: true, tpm12.BadDataSize: true,
}

// Save implements chip.LoadedKey. Whoever loaded the key without a secret knew that the
// SRK's is the well-known one, so no context is of a secret. Part 3, section 21.2
// (TPM_SaveContext).
func (k *loadedKey) Save() (chip.Context, error) {
	data, err := k.chip.conn.SaveContext(k.handle)
	return chip.Context{Data: data}, k.chip.explain(err, nil)
}

// Flush implements chip.Chip. Part 3, section 22.1 (TPM_FlushSpecific).
func (c *Chip) Flush(kind chip.Kind, handle uint32) error {
	switch kind {
	case chip.Sessions:
		return c.flushSession(handle)
	case chip.SavedSessions:
		return c.explain(c.conn.FlushSaved(handle), nil)
	}
	err := c.conn.FlushSpecific(tpm12.Handle(handle))
	switch {
	case errors.Is(err, tpm12.BadParameter), errors.Is(err, tpm12.InvalidKeyHandle): // gone already
		return nil
	case errors.Is(err, tpm12.KeyOwnerControl): // the owner wants it to stay
		return nil
	}
	return c.explain(err, nil)
}

func (c *Chip) flushSession(handle uint32) error {
	err := c.conn.FlushSession(handle)
	if errors.Is(err, tpm12.InvalidAuthHandle) { // gone already, perhaps with its key
		return nil
	}
	return c.explain(err, nil)
}

// Loaded implements chip.Chip.
func (c *Chip) Loaded(kind chip.Kind) (handles []uint32, err error) {
	switch kind {
	case chip.Sessions:
		handles, err = c.conn.Sessions()
	case chip.SavedSessions:
		handles, err = c.conn.SavedSessions()
	default:
		var keys []tpm12.Handle
		keys, err = c.conn.LoadedKeys()
		for _, h := range keys {
			handles = append(handles, uint32(h))
		}
	}
	return handles, c.explain(err, nil)
}
