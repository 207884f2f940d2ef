package keymgr

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/queue"
)

// A secretSource is where a secret comes from, and where it stays if it may be kept.
type secretSource struct {
	what string // for errors
	gen  chip.Generation

	asking chan struct{} // holds a token from startAsking to doneAsking

	mu     sync.Mutex
	source Secret
}

// newSecretSource returns a source with its own copy of a known secret. forget clears the copy.
func newSecretSource(g chip.Generation, s Secret, what string) *secretSource {
	if s.value != nil {
		s = secretOf(s.value().clone().only(g))
	}
	return &secretSource{what: what, gen: g, source: s, asking: make(chan struct{}, 1)}
}

// check returns an error for a known secret that this generation of TPM does not accept.
func (s *secretSource) check() error {
	if s.source.value == nil {
		return nil
	}
	auth, err := s.source.value().forGeneration(s.gen, s.what)
	clear(auth)
	return err
}

// startAsking waits until no other operation asks for this secret. doneAsking must follow.
func (s *secretSource) startAsking(ctx context.Context) error {
	select {
	case s.asking <- struct{}{}:
		return nil
	case <-ctx.Done():
		return queue.GaveUp(ctx)
	}
}

// doneAsking ends what startAsking began; s may be nil.
func (s *secretSource) doneAsking() {
	if s != nil {
		<-s.asking
	}
}

// known returns a copy of the secret; nil if it must be asked for.
func (s *secretSource) known() chip.AuthData {
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

// ask asks for the secret, and keeps it if that is allowed.
func (s *secretSource) ask() (chip.AuthData, error) {
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

// set replaces the source with a known secret.
func (s *secretSource) set(secret Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = secret
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
type secrets struct{ parent, key chip.AuthData }

// refresh adds what is known by now; h is nil for work without a key.
func (s *secrets) refresh(h *Key) {
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

// has reports whether the parent's or the key's secret is known.
func (s *secrets) has(ofParent bool) bool {
	return ofParent && s.parent != nil || !ofParent && s.key != nil
}

func (s *secrets) clear() {
	clear(s.parent)
	clear(s.key)
}

// defaultParent is the SRK of a TPM 1.2, and the owner's hierarchy of a TPM 2.0.
const defaultParent = 0x40000001

// parent is the handle of the key's parent, as the file says it.
func (h *Key) parent() uint32 {
	if t, ok := h.file.(*blob.TSS2); ok {
		return cmp.Or(t.Parent, defaultParent)
	}
	return defaultParent
}

// checkRefused refuses a secret that a parent has refused before.
func (m *Manager) checkRefused(parent uint32, srk chip.AuthData) error {
	if m.refused != nil && hmac.Equal(m.refused, m.mark(parent, srk)) {
		return chip.OfKind(chip.ErrWrongSRKSecret, "the TPM has refused this one before; it was not tried again", nil)
	}
	return nil
}

// noteProved remembers a parent's secret that the TPM has accepted.
func (m *Manager) noteProved(parent uint32, srk chip.AuthData) { m.proved = m.mark(parent, srk) }

// noteRefused remembers one that it has refused, and never accepted.
func (m *Manager) noteRefused(parent uint32, srk chip.AuthData) {
	if !m.hasProved(parent, srk) {
		m.refused = m.mark(parent, srk)
	}
}

// hasProved reports whether the TPM has accepted this secret of a parent before.
func (m *Manager) hasProved(parent uint32, srk chip.AuthData) bool {
	return srk == nil || hmac.Equal(m.proved, m.mark(parent, srk))
}

// mark returns a salted MAC that identifies a parent's secret without storing it.
func (m *Manager) mark(parent uint32, secret chip.AuthData) []byte {
	h := hmac.New(sha256.New, m.salt[:])
	h.Write(binary.BigEndian.AppendUint32(nil, parent))
	h.Write(secret)
	return h.Sum(nil)
}
