package keymgr

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
)

// A Key is the key of a file, which is loaded when it is used.
type Key struct {
	// Ops is what the TPM can do with it.
	Ops *chip.KeyOps

	tpm    *Manager
	file   blob.Key
	public crypto.PublicKey
	// needsSecret is file.NeedsSecret(). emptyCounts means that the file says that the key has no
	// secret, and that the TPM would count the empty one as wrong.
	needsSecret, emptyCounts bool

	slotState    // of the operation whose turn it is
	secret       *secretSource
	parentSecret *secretSource

	mu       sync.Mutex // guards what follows
	proved   bool       // the TPM has accepted the secret
	notEmpty bool       // the TPM has refused the empty secret, which was not counted
	wrong    error      // set once the TPM called a secret wrong
	closed   bool
}

// NewKey returns a key that is not loaded yet. It sends nothing. It returns an error for a
// known secret that this generation of TPM does not accept.
func (m *Manager) NewKey(file blob.Key, ops *chip.KeyOps, parent, key Secret) (*Key, error) {
	g := m.chip.Generation()
	h := &Key{
		Ops: ops, tpm: m, file: file, public: file.PublicKey(), needsSecret: file.NeedsSecret(),
		secret:       newSecretSource(g, key, secretText(file)),
		parentSecret: newSecretSource(g, parent.OrWellKnown(), "the SRK's secret"),
	}
	if t, ok := file.(*blob.TSS2); ok {
		h.emptyCounts = t.EmptyAuth && t.CountsTries()
	}
	if err := h.parentSecret.check(); err != nil {
		return nil, err
	}
	if h.needsSecret {
		return h, h.secret.check()
	}
	return h, nil
}

// secretText says whose secret a key, or sealed data, needs.
func secretText(file blob.Key) string {
	if t, ok := file.(*blob.TSS2); ok {
		if owner := policy.SecretOwner(t); owner != "" {
			return "the secret of " + owner + ", which the key's policy asks for"
		}
	}
	if file.Sealed() {
		return "the secret of the sealed data"
	}
	return "the key's own secret"
}

// File returns the content of the key file.
func (h *Key) File() blob.Key { return h.file }

// Public returns the public half; it is nil for sealed data.
func (h *Key) Public() crypto.PublicKey { return h.public }

// Forget clears the secrets of a key that was never loaded, or is not used any more.
func (h *Key) Forget() { h.forget() }

// authorized reports whether the key has a session of its own in the TPM.
func (h *Key) authorized() bool { return h.sessionIs(chip.SessionLoaded) }

// usable returns an error if the key is closed or its secret was wrong. It is called in the
// turn, because another goroutine may change that while this one waits.
func (h *Key) usable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("key: %w", chip.ErrClosed)
	}
	return h.wrong
}

// isProved reports whether the TPM has accepted the key's secret before.
func (h *Key) isProved() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proved
}

// isNotEmpty reports whether the TPM has refused the empty secret before.
func (h *Key) isNotEmpty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.notEmpty
}

// markNotEmpty records that the TPM has refused the empty secret.
func (h *Key) markNotEmpty() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notEmpty = true
}

// markProved records that the TPM has accepted the secret.
func (h *Key) markProved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proved = true
}

// markUnproved records that the secret was asked for again, so it may be another one.
func (h *Key) markUnproved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proved = false
}

// recordResult records what an operation showed about the secrets, so that a wrong one costs
// one try. A secret whose first use had no answer, and no known count, is not tried again
// either. h is nil for work without a key.
func (h *Key) recordResult(p *task, err error) {
	if h == nil {
		return
	}
	if errors.Is(err, chip.ErrWrongSRKSecret) {
		h.tpm.noteRefused(h.parent(), p.with.parent)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.wrong != nil: // already recorded
	case errors.Is(err, chip.ErrWrongKeySecret), errors.Is(err, chip.ErrWrongSRKSecret):
		h.wrong = fmt.Errorf("%w (not tried again: load the key anew with another secret)", err)
	case errors.Is(err, errUnproved):
		h.wrong = err
	case (p.keyTried || p.emptyTried) && p.proves(err):
		h.proved = true
		if p.emptyTried {
			h.secret.set(WellKnown())
		}
		return
	default:
		return
	}
	h.secret.forget()
	h.parentSecret.forget()
}

// loadFile loads the key from its file.
func (m *Manager) loadFile(h *Key, with *secrets) (chip.LoadedKey, error) {
	t, is20 := h.file.(*blob.TSS2)
	if is20 && t.Handle != 0 { // it has no parent to be loaded under
		return m.chip.Load(h.file, nil)
	}
	if with.parent == nil {
		if err := m.checkParent(h.parent(), is20 && t.MovableParent); err != nil { // before the secret is asked for
			return nil, err
		}
		if _, err := m.readTries(h.file, true); err != nil {
			return nil, err
		}
		return nil, &needed{ofParent: true}
	}
	if err := m.checkRefused(h.parent(), with.parent); err != nil {
		return nil, err
	}
	in, err := m.chip.Load(h.file, with.parent)
	if err == nil {
		m.noteProved(h.parent(), with.parent)
	}
	return in, err
}

// checkParent returns an error if the TPM has no SRK that can be used, or if the secret of a parent
// must not be used.
func (m *Manager) checkParent(parent uint32, movable bool) error {
	s, err := m.chip.State()
	switch {
	case err != nil:
		return err
	case s.Unusable != nil:
		return s.Unusable
	case !s.Owned:
		return chip.ErrNoSRK
	}
	return m.chip.CheckParentSecret(parent, movable)
}

// ResolveParent returns the secret of a parent for what spec describes. It asks for none that must
// not be used.
func (m *Manager) ResolveParent(ctx context.Context, spec *chip.Spec, s Secret) (chip.AuthData, error) {
	if s.ask != nil {
		err := m.Run(ctx, func() error { return m.checkParent(spec.Parent, spec.MovableParent) })
		if err != nil {
			return nil, err
		}
	}
	return s.OrWellKnown().ResolveFor(m.chip.Generation(), "the SRK's secret")
}

// Make runs f, which makes a key and needs a parent's secret, in a turn of its own. A secret
// that was refused is not tried again. parentAuth is nil if f uses another secret instead.
func (m *Manager) Make(ctx context.Context, parent uint32, parentAuth chip.AuthData, f func() error) error {
	parent = cmp.Or(parent, defaultParent)
	_, err := m.Do(&Work{Ctx: ctx, Once: true, Alone: true, Func: func() error {
		if parentAuth == nil {
			return f()
		}
		if err := m.checkRefused(parent, parentAuth); err != nil {
			return err
		}
		err := f()
		switch {
		case err == nil:
			m.noteProved(parent, parentAuth)
		case errors.Is(err, chip.ErrWrongSRKSecret):
			m.noteRefused(parent, parentAuth)
		}
		return chip.MarkDefaultSecret(err, parentAuth)
	}})
	return err
}

// forget clears the secrets.
func (h *Key) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.secret.forget()
	h.parentSecret.forget()
}

// Close frees the key's slot in the TPM and forgets its secret. Operations under way
// finish first; later ones get ErrClosed. If the TPM is not available, the key stays open.
func (h *Key) Close() error {
	err := h.tpm.exclusively(h.shut)
	if errors.Is(err, chip.ErrClosed) {
		return nil // the TPM was closed, and freed the key
	}
	return err
}

// shut is Close while no other operation of this process has the TPM. It opens a turn only if
// the key is loaded or has a saved session. If the TPM is not available, the key stays open.
func (h *Key) shut() (err error) {
	if h.isClosed() {
		return nil
	}
	if h.in != nil || h.sessionIs(chip.SessionSaved) {
		if err := h.tpm.openTurn(&Work{Ctx: noLimit}); err != nil {
			return err
		}
		err = h.tpm.free(h)
	}
	h.forget()
	delete(h.tpm.keys, h)
	h.context = nil
	return err
}

func (h *Key) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}
