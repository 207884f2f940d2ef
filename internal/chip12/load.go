package chip12

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// A loadedKey implements chip.LoadedKey.
type loadedKey struct {
	chip    *Chip
	handle  tpm12.Handle
	size    int               // modulus size in bytes
	sealed  bool              // the storage key of sealed data
	session *tpm12.KeySession // nil if the secret is available for each command
}

// Load implements chip.Chip. TPM Main Part 3, section 10.5 (TPM_LoadKey2).
func (c *Chip) Load(file blob.Key, srk chip.AuthData) (chip.LoadedKey, error) {
	k, sealed := keyOf(file)
	if err := c.readLockoutLately(); err != nil {
		return nil, c.explain(err, nil)
	}
	if k.NeedsSecret() && !sealed {
		c.conn.Keep(true) // the same session then authorizes the key's use
	}
	before := c.lockout
	c.lockoutRead = time.Time{}
	handle, err := c.conn.LoadKey2(tpm12.SRK, k.Bytes(), secretOf(srk))
	if err != nil {
		return nil, c.explainLoad(err, before)
	}
	return &loadedKey{chip: c, handle: handle, size: len(k.Modulus), sealed: sealed}, nil
}

// Restore implements chip.Chip. TPM Main Part 3, section 21.3 (TPM_LoadContext).
func (c *Chip) Restore(file blob.Key, was chip.LoadedKey, context []byte) (chip.LoadedKey, error) {
	if was == nil && !tpm12.IsKeyContext(context) {
		return nil, chip.OfKind(chip.ErrUnloaded, "the context on disk is not of a key", nil)
	}
	handle, err := c.conn.LoadContext(context)
	if err != nil {
		return nil, c.explain(err, nil)
	}
	k, sealed := keyOf(file)
	in := &loadedKey{chip: c, handle: handle, size: len(k.Modulus), sealed: sealed}
	if was == nil {
		return c.checkRestored(k, in)
	}
	return in, nil
}

// checkRestored compares the public key of a context from disk with the file's. Only keys without
// a secret are on disk, so the command needs none.
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

// auth returns the authorization of a command for the key.
func (k *loadedKey) auth(key chip.AuthData) tpm12.Auth {
	if k.session != nil {
		return k.session
	}
	return secretOf(key)
}

// Authorize implements chip.LoadedKey.
func (k *loadedKey) Authorize(key chip.AuthData) (chip.Session, error) {
	if k.sealed { // TPM_Unseal takes no session of TPM_OSAP for the data
		return nil, chip.ErrNoOwnSession
	}
	session, err := k.chip.conn.OpenKeySession(k.handle, secretOf(key))
	if err != nil {
		return nil, k.chip.explain(err, nil)
	}
	k.session = session
	return keySession{session}, nil
}

// A keySession implements chip.Session.
type keySession struct{ *tpm12.KeySession }

// State implements chip.Session.
func (s keySession) State() (chip.SessionState, uint32) { return chip.StateOf(s) }

// Resume implements chip.LoadedKey.
func (k *loadedKey) Resume(s chip.Session) error {
	k.session = s.(keySession).KeySession
	return k.chip.explain(k.session.Restore(k.handle), nil)
}

// sign signs area. TPM Main Part 3, section 13.5 (TPM_Sign).
func (k *loadedKey) sign(area []byte, key chip.AuthData) ([]byte, error) {
	sig, err := k.chip.conn.Sign(k.handle, area, k.auth(key))
	return sig, k.chip.explain(err, chip.ErrWrongKeySecret)
}

// decrypt decrypts ciphertext. With sessionKey, no later command may reveal what was wrong with
// the ciphertext. TPM Main Part 3, section 10.3 (TPM_UnBind).
func (k *loadedKey) decrypt(ciphertext []byte, sessionKey bool, key chip.AuthData) ([]byte, error) {
	unbind := k.chip.conn.UnBind
	if sessionKey { // a bad ciphertext would end the session, and the next operation would show that
		unbind = k.chip.conn.UnBindLast
	}
	plain, err := unbind(k.handle, ciphertext, k.auth(key))
	var refused *tpm12.Error
	if errors.As(err, &refused) && badCiphertext[refused.Code] {
		return nil, chip.ErrRefusedCiphertext
	}
	if err == nil && len(plain) > k.size-11 {
		return nil, errors.New("the TPM returned more plaintext than fits: the chip or its connection is faulty")
	}
	return plain, k.chip.explain(err, chip.ErrWrongKeySecret)
}

// badCiphertext are the result codes of TPM_UnBind for wrong padding, a wrong TPM_BOUND_DATA in
// it, or too little data. Callers get one error for all, because a padding oracle would let an
// attacker decrypt.
var badCiphertext = map[tpm12.ResultCode]bool{
	tpm12.DecryptError: true, tpm12.BadVersion: true, tpm12.BadParamSize: true,
	tpm12.InvalidStructure: true, tpm12.BadDataSize: true,
}

// Save implements chip.LoadedKey. OfSecret is false: a key that was loaded without asking for a
// secret was loaded with the well-known SRK secret. TPM Main Part 3, section 21.2
// (TPM_SaveContext).
func (k *loadedKey) Save() (chip.Context, error) {
	data, err := k.chip.conn.SaveContext(k.handle)
	return chip.Context{Data: data}, k.chip.explain(err, nil)
}

// Flush implements chip.Chip. TPM Main Part 3, section 22.1 (TPM_FlushSpecific).
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
	case errors.Is(err, tpm12.KeyOwnerControl): // the owner keeps it loaded
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
