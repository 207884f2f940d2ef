package tpmkey

import (
	"crypto"
	"errors"
	"fmt"
	"sync"

	"maclef/blob"
)

// A keyState is what all the Keys have in common that WithContext made of one.
type keyState struct {
	tpm       *TPM
	file      *blob.Key
	public    crypto.PublicKey
	abilities abilities
	// needsSecret is what the file says of that.
	needsSecret bool

	place        // of the operation whose turn it is
	secret       *secretSource
	parentSecret *secretSource

	mu     sync.Mutex // guards what follows
	proved bool       // the TPM has accepted the secret
	wrong  error      // set once the TPM called a secret wrong
	closed bool
}

// authorized reports whether the key has a session of its own in the TPM.
func (h *keyState) authorized() bool { return h.session != nil && h.session.Alive() }

// usable is checked in the turn itself, too: another goroutine may have met a wrong
// secret, or closed the key, while this one waited.
func (h *keyState) usable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("key: %w", ErrClosed)
	}
	return h.wrong
}

// isProved reports whether the TPM has accepted the key's secret before.
func (h *keyState) isProved() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proved
}

// doubt takes note that the secret was asked for anew: it may be another one than
// the TPM has accepted.
func (h *keyState) doubt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proved = false
}

// noteSecrets remembers what an operation showed of the secrets, so that a wrong one
// costs one try only. Where the TPM gave no answer to the first use of one, and its count
// does not tell, it is not tried again, either. h is nil for work without a key.
func (h *keyState) noteSecrets(p *performance, err error) {
	if h == nil {
		return
	}
	if errors.Is(err, ErrWrongSRKSecret) {
		h.tpm.noteRefused(h.parent(), p.with.parent)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.wrong != nil: // it has been said
	case errors.Is(err, ErrWrongKeySecret), errors.Is(err, ErrWrongSRKSecret):
		h.wrong = fmt.Errorf("%w (not tried again: load the key anew with another secret)", err)
	case errors.Is(err, errInDoubt):
		h.wrong = err
	case p.keyTried && (err == nil || errors.Is(err, errDecryption)):
		h.proved = true
		return
	default:
		return
	}
	h.secret.forget()
	h.parentSecret.forget()
}

// loadFile loads the key from its file.
func (t *TPM) loadFile(h *keyState, with *secrets) (loadedKey, error) {
	if h.file.TSS2 != nil && h.file.TSS2.Handle != 0 { // it has no parent to be loaded under
		return t.chip.load(h.file, nil)
	}
	if with.parent == nil {
		if err := t.chip.ready(); err != nil { // before anybody is asked
			return nil, err
		}
		if _, err := t.readTries(h.file, true); err != nil {
			return nil, err
		}
		return nil, &needed{ofParent: true}
	}
	if err := t.checkRefused(h.parent(), with.parent); err != nil {
		return nil, err
	}
	in, err := t.chip.load(h.file, with.parent)
	if err == nil {
		t.noteProved(h.parent(), with.parent)
	}
	return in, err
}

// forget clears the secrets.
func (h *keyState) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.secret.forget()
	h.parentSecret.forget()
}

// Close frees the key's place in the TPM and forgets its secret. Operations
// under way finish first; later ones are ErrClosed. Where the TPM cannot be had the
// key stays open: close it again, or the TPM.
func (k *Key) Close() error {
	err := k.tpm.exclusively(k.shut)
	if errors.Is(err, ErrClosed) {
		return nil // the TPM was closed, and freed the key
	}
	return err
}

// shut is Close, where no other operation of this process has the TPM. It takes that only
// where something of the key is there.
func (h *keyState) shut() (err error) {
	if h.isClosed() {
		return nil
	}
	if h.in != nil || h.session != nil && h.session.Saved() {
		if err := h.tpm.openTurn(&work{ctx: noLimit}); err != nil {
			return err
		}
		err = h.tpm.free(h)
	}
	h.forget()
	delete(h.tpm.keys, h)
	h.context = nil
	return err
}

func (h *keyState) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}
