package tpmkey

import (
	"bytes"
	"context"
	"sync"
)

// A vault is where a secret comes from, and where it stays if it may be kept.
type vault struct {
	what string // for errors
	gen  generation

	asking chan struct{} // holds a token while it is asked for, until the TPM has seen it

	mu     sync.Mutex
	source Secret
}

// newVault has a copy of a secret that is known, which it clears in the end.
func newVault(g generation, s Secret, what string) *vault {
	if s.value != nil {
		s = secretOf(s.value().clone().only(g))
	}
	return &vault{what: what, gen: g, source: s, asking: make(chan struct{}, 1)}
}

// check refuses a secret that is known and that no TPM of the generation takes.
func (v *vault) check() error {
	if v.source.value == nil {
		return nil
	}
	auth, err := v.source.value().forGeneration(v.gen, v.what)
	clear(auth)
	return err
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
	if v.source.value == nil {
		return nil
	}
	auth, _ := v.source.value().forGeneration(v.gen, v.what) // checked before
	return auth
}

// kept reports whether the secret may stay in memory.
func (v *vault) kept() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.source.value != nil || v.source.keep
}

// ask asks for the secret, and keeps it where that is allowed.
func (v *vault) ask() (authData, error) {
	v.mu.Lock()
	source := v.source
	v.mu.Unlock()
	answer, err := source.resolve(v.what)
	if err != nil {
		return nil, err
	}
	auth, err := answer.forGeneration(v.gen, v.what)
	if err == nil && source.keep {
		v.mu.Lock()
		v.source = secretOf(answer.only(v.gen))
		v.mu.Unlock()
		return auth, nil
	}
	answer.clear()
	return auth, err
}

// refresh adds what is known by now.
func (s *secrets) refresh(h *held) {
	if s.srk == nil {
		s.srk = h.srk.known()
	}
	if s.key == nil && h.needsSecret {
		s.key = h.secret.known()
	}
}

// forget clears the secret.
func (v *vault) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.source.value != nil {
		v.source.value().clear()
	}
	v.source = Secret{}
}

// secrets are copies of what an operation may need; nil where it is not known.
type secrets struct{ srk, key authData }

func (s *secrets) copy() *secrets {
	return &secrets{bytes.Clone(s.srk), bytes.Clone(s.key)}
}

func (s *secrets) clear() {
	clear(s.srk)
	clear(s.key)
}
