package tpmkey

import (
	"errors"
	"fmt"
	"time"
)

// An operation is what is done with a loaded key, in a turn.
type operation func(in loadedKey, key authData) ([]byte, error)

// A needed error is what an operation lacks that cannot be had in a turn.
type needed struct {
	srk, key bool  // a secret that must be asked for
	room     bool  // what only other processes can give
	why      error // for room
	// courtesy is for how long to leave places to others that have asked for them.
	courtesy time.Duration
}

func (n *needed) Error() string {
	if n.why != nil {
		return n.why.Error()
	}
	return "a secret must be asked for"
}

func (n *needed) Unwrap() error { return n.why }

// operate runs one operation of the chip with the key loaded and its secret at
// hand; a nil one just loads the key.
func (k *Key) operate(op operation) ([]byte, error) {
	with := new(secrets)
	with.refresh(k.held)
	defer with.clear()
	var asking *vault // where this operation is the one that asks
	defer func() { asking.answered() }()
	room := roomWait{tpm: k.tpm}
	for {
		out, err := k.inTurn(op, with.copy())
		var lacks *needed
		if !errors.As(err, &lacks) {
			return out, err
		}
		switch {
		case lacks.courtesy > 0:
			if err := wait(k.ctx, lacks.courtesy); err != nil {
				return nil, err
			}
		case lacks.room:
			if err := room.wait(k.ctx, lacks.why); err != nil {
				return nil, err
			}
		case asking != k.secretVault(lacks):
			// Somebody else may be answering the same question: look again then.
			asking.answered()
			asking = k.secretVault(lacks)
			if err := asking.question(k.ctx); err != nil {
				asking = nil
				return nil, err
			}
			with.refresh(k.held)
		default:
			if err := k.fill(with, lacks); err != nil {
				return nil, err
			}
		}
	}
}

func (h *held) secretVault(n *needed) *vault {
	if n.srk {
		return h.srk
	}
	return h.secret
}

// fill asks for what an operation lacks.
func (k *Key) fill(with *secrets, lacks *needed) error {
	auth, err := k.secretVault(lacks).ask()
	if err != nil {
		return err
	}
	if err := k.usable(); err != nil { // closed meanwhile
		clear(auth)
		k.secretVault(lacks).forget()
		return err
	}
	if lacks.srk {
		with.srk = auth
	} else {
		with.key = auth
		k.doubt()
	}
	return nil
}

// inTurn is one try of an operation; it owns with.
func (k *Key) inTurn(op operation, with *secrets) ([]byte, error) {
	h := k.held
	perform := func() ([]byte, error) { return h.perform(op, with) }
	return h.tpm.turnFor(k.ctx, k.alive, perform, with.clear)
}

// usable is checked in the turn itself, too: another goroutine may have met a wrong
// secret, or closed the key, while this one waited.
func (h *held) usable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("key: %w", ErrClosed)
	}
	return h.wrong
}

// isProved reports whether the TPM has accepted the key's secret before.
func (h *held) isProved() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proved
}

// doubt takes note that the secret was asked for anew: it may be another one than
// the TPM has accepted.
func (h *held) doubt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proved = false
}

// settle remembers what an operation showed of the secrets, so that a wrong one
// costs one try only. Where the TPM gave no answer to the first use of one, nobody
// knows whether it was wrong: then it is not tried again, either.
func (h *held) settle(err error, tried bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cond := h.tpm.chip.condition(err)
	switch {
	case h.wrong != nil: // it has been said
	case errors.Is(err, ErrWrongKeySecret), errors.Is(err, ErrWrongSRKSecret):
		h.wrong = fmt.Errorf("%w (not tried again: load the key anew with another secret)", err)
	case tried && (err == nil || errors.Is(err, errDecryption)):
		h.proved = true
		return
	case tried && cond == noReplyToSecret && !h.proved:
		h.wrong = fmt.Errorf("%w (whether the key's secret is right is not known, so it is not tried again: load the key anew)", err)
	default:
		return
	}
	h.secret.forget()
	h.srk.forget()
}

// forget clears the secrets.
func (h *held) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.secret.forget()
	h.srk.forget()
}

// Close frees the key's place in the TPM and forgets its secret. Operations
// under way finish first; later ones are ErrClosed. Where the TPM cannot be had the
// key stays open: close it again, or the TPM.
func (k *Key) Close() error {
	err := k.tpm.turn(k.shut)
	if errors.Is(err, ErrClosed) {
		return nil // the TPM was closed, and freed the key
	}
	return err
}

// shut is Close in a turn.
func (h *held) shut() error {
	if h.isClosed() {
		return nil
	}
	h.forget()
	delete(h.tpm.keys, h)
	h.slot.context = nil
	return h.tpm.slots.free(h)
}

func (h *held) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}
