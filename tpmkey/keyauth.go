package tpmkey

import (
	"errors"
	"fmt"
)

// operate runs one operation of the chip with the key's secret.
func (k *Key) operate(f func(authData) ([]byte, error)) ([]byte, error) {
	auth, err := k.authorization()
	if err != nil {
		return nil, err
	}
	if auth != nil {
		defer clear(auth[:])
	}
	var out []byte
	err = k.tpm.turn(func() (err error) {
		if err := k.usable(); err != nil {
			return err
		}
		out, err = f(auth)
		if auth != nil {
			k.settle(err)
		}
		return err
	})
	return out, err
}

// authorization returns the key's secret, nil for a key without one. It asks
// where that is needed, once.
func (k *Key) authorization() (authData, error) {
	if !k.file.NeedsSecret() {
		return nil, nil
	}
	k.asking.Lock()
	defer k.asking.Unlock()
	auth, secret, err := k.known()
	if auth != nil || err != nil {
		return auth, err
	}
	answer, err := secret.resolve("the key's own secret")
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.state(); err != nil { // closed meanwhile
		clear(answer[:])
		return nil, err
	}
	k.auth, k.secret = hide(answer), Secret{}
	return &answer, nil
}

// known returns a copy of the key's secret, or else where to ask for it.
func (k *Key) known() (authData, Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.state(); err != nil {
		return nil, Secret{}, err
	}
	if k.auth == nil {
		return nil, k.secret, nil
	}
	auth := *k.auth()
	return &auth, Secret{}, nil
}

// usable is checked in the turn itself: another goroutine may have met a wrong
// secret, or closed the key, while this one waited.
func (k *Key) usable() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state()
}

func (k *Key) state() error {
	if k.closed {
		return fmt.Errorf("key: %w", ErrClosed)
	}
	return k.wrong
}

// settle remembers what an operation showed of the secret, so that a wrong one
// costs one try only. Where the TPM gave no answer to the first use of it,
// nobody knows whether it was wrong: then it is not tried again, either.
func (k *Key) settle(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lost *noAnswer
	switch {
	case err == nil:
		k.proved = true
	case errors.Is(err, ErrWrongKeySecret):
		k.wrong = fmt.Errorf("%w (not tried again: load the key anew with another secret)", err)
		k.forgetLocked()
	case errors.As(err, &lost) && !k.proved:
		k.wrong = fmt.Errorf("%w (whether the key's secret is right is not known, so it is not tried again: load the key anew)", err)
		k.forgetLocked()
	}
}

// forget clears the secret.
func (k *Key) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.forgetLocked()
}

func (k *Key) forgetLocked() {
	if k.auth != nil {
		clear(k.auth()[:])
	}
	k.auth, k.secret = nil, Secret{}
}

// Close frees the key's place in the TPM and forgets its secret. Operations
// under way finish first; later ones are ErrClosed.
func (k *Key) Close() error {
	err := k.tpm.turn(k.shut)
	if errors.Is(err, ErrClosed) {
		return nil // the TPM was closed, and freed the key
	}
	return err
}

// shut is Close in a turn.
func (k *Key) shut() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	k.forgetLocked()
	delete(k.tpm.keys, k)
	return k.loaded.flush()
}
