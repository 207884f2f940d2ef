package tpmkey

import (
	"context"
	"sync"
)

// A vault is where a secret comes from, and where it stays if it may be kept.
type vault struct {
	what string // for errors

	asking chan struct{} // holds a token while it is asked for, until the TPM has seen it

	mu     sync.Mutex
	source Secret
}

// newVault has a copy of a secret that is known, which it clears in the end.
func newVault(s Secret, what string) *vault {
	if s.digest != nil {
		s = SHA1Secret(*s.digest())
	}
	return &vault{what: what, source: s, asking: make(chan struct{}, 1)}
}

// question begins to ask, once nobody else does any more; answered must follow.
func (v *vault) question(ctx context.Context) error {
	select {
	case v.asking <- struct{}{}:
		return nil
	case <-ctx.Done():
		return gaveUp(ctx)
	}
}

// answered ends what question began; v may be nil.
func (v *vault) answered() {
	if v != nil {
		<-v.asking
	}
}

// known returns a copy of the secret, nil where somebody must be asked for it.
func (v *vault) known() authData {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.source.digest == nil {
		return nil
	}
	auth := *v.source.digest()
	return &auth
}

// kept reports whether the secret may stay in memory.
func (v *vault) kept() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.source.digest != nil || v.source.keep
}

// ask asks for the secret, and keeps it where that is allowed.
func (v *vault) ask() (authData, error) {
	v.mu.Lock()
	source := v.source
	v.mu.Unlock()
	auth, err := source.resolve(v.what)
	if err != nil {
		return nil, err
	}
	if source.keep {
		v.mu.Lock()
		v.source = SHA1Secret(auth)
		v.mu.Unlock()
	}
	return &auth, nil
}

// refresh adds what is known by now.
func (s *secrets) refresh(h *held) {
	if s.srk == nil {
		s.srk = h.srk.known()
	}
	if s.key == nil && h.file.NeedsSecret() {
		s.key = h.secret.known()
	}
}

// forget clears the secret.
func (v *vault) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.source.digest != nil {
		clear(v.source.digest()[:])
	}
	v.source = Secret{}
}

// secrets are copies of what an operation may need; nil where it is not known.
type secrets struct{ srk, key authData }

func (s *secrets) copy() *secrets {
	dup := func(a authData) authData {
		if a == nil {
			return nil
		}
		b := *a
		return &b
	}
	return &secrets{dup(s.srk), dup(s.key)}
}

func (s *secrets) clear() {
	for _, auth := range []authData{s.srk, s.key} {
		if auth != nil {
			clear(auth[:])
		}
	}
}
