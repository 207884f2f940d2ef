package tpmkey

import (
	"context"
	"sync"
)

// A secretSource is where a secret comes from, and where it stays if it may be kept.
type secretSource struct {
	what string // for errors
	gen  generation

	asking chan struct{} // holds a token while it is asked for, until the TPM has seen it

	mu     sync.Mutex
	source Secret
}

// newSecretSource has a copy of a secret that is known, which it clears in the end.
func newSecretSource(g generation, s Secret, what string) *secretSource {
	if s.value != nil {
		s = secretOf(s.value().clone().only(g))
	}
	return &secretSource{what: what, gen: g, source: s, asking: make(chan struct{}, 1)}
}

// check refuses a secret that is known and that no TPM of the generation takes.
func (s *secretSource) check() error {
	if s.source.value == nil {
		return nil
	}
	auth, err := s.source.value().forGeneration(s.gen, s.what)
	clear(auth)
	return err
}

// question begins to ask, once nobody else does any more; answered must follow.
func (s *secretSource) question(ctx context.Context) error {
	select {
	case s.asking <- struct{}{}:
		return nil
	case <-ctx.Done():
		return gaveUp(ctx)
	}
}

// answered ends what question began; s may be nil.
func (s *secretSource) answered() {
	if s != nil {
		<-s.asking
	}
}

// known returns a copy of the secret, nil where somebody must be asked for it.
func (s *secretSource) known() authData {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source.value == nil {
		return nil
	}
	auth, _ := s.source.value().forGeneration(s.gen, s.what) // checked before
	return auth
}

// kept reports whether the secret may stay in memory.
func (s *secretSource) kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source.value != nil || s.source.keep
}

// ask asks for the secret, and keeps it where that is allowed.
func (s *secretSource) ask() (authData, error) {
	s.mu.Lock()
	source := s.source
	s.mu.Unlock()
	answer, err := source.resolve(s.what)
	if err != nil {
		return nil, err
	}
	auth, err := answer.forGeneration(s.gen, s.what)
	if err == nil && source.keep {
		s.mu.Lock()
		s.source = secretOf(answer.only(s.gen))
		s.mu.Unlock()
		return auth, nil
	}
	answer.clear()
	return auth, err
}

// forget clears the secret.
func (s *secretSource) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source.value != nil {
		s.source.value().clear()
	}
	s.source = Secret{}
}

// secrets are copies of what an operation may need; nil where it is not known.
type secrets struct{ parent, key authData }

// refresh adds what is known by now; h is nil for work without a key.
func (s *secrets) refresh(h *keyState) {
	if h == nil {
		return
	}
	if s.parent == nil {
		s.parent = h.parentSecret.known()
	}
	if s.key == nil && h.needsSecret {
		s.key = h.secret.known()
	}
}

func (s *secrets) clear() {
	clear(s.parent)
	clear(s.key)
}
