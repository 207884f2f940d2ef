package tpmtest

import (
	"bytes"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/relay"
)

// Exchange is one command and what came of it.
type Exchange struct {
	Ordinal  uint32 // of the command
	Command  []byte
	Response []byte
	Err      error
}

// Tap stands between a program and its TPM, records what is said, and lets a
// test falsify it. It is safe for concurrent use; the hooks are called one at a
// time.
type Tap struct {
	// Before may replace a command, or fail it so that the TPM never sees it.
	// i counts the commands from 0. Nil passes everything.
	Before func(i int, cmd []byte) ([]byte, error)
	// After may replace the outcome. Nil passes everything.
	After func(i int, cmd, rsp []byte, err error) ([]byte, error)

	inner transport.TPMCloser
	mu    sync.Mutex
	log   []Exchange
}

// NewTap taps a transport, which it owns from then on.
func NewTap(inner transport.TPMCloser) *Tap { return &Tap{inner: inner} }

// Send passes a command on and records it as it was given, with the outcome as
// it was returned.
func (p *Tap) Send(cmd []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := Exchange{Ordinal: relay.Code(cmd), Command: bytes.Clone(cmd)}
	e.Response, e.Err = p.send(len(p.log), bytes.Clone(cmd))
	p.log = append(p.log, e)
	return bytes.Clone(e.Response), e.Err
}

func (p *Tap) send(i int, cmd []byte) (rsp []byte, err error) {
	if p.Before != nil {
		if cmd, err = p.Before(i, cmd); err != nil {
			return nil, err
		}
	}
	rsp, err = p.inner.Send(cmd)
	if p.After != nil {
		rsp, err = p.After(i, cmd, rsp, err)
	}
	return rsp, err
}

// Close closes the tapped transport.
func (p *Tap) Close() error { return p.inner.Close() }

// Exchanges returns a copy of the record, oldest first.
func (p *Tap) Exchanges() []Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// Count returns how many commands had one of these ordinals; without any, how
// many there were.
func (p *Tap) Count(ordinals ...uint32) int {
	n := 0
	for _, e := range p.Exchanges() {
		if len(ordinals) == 0 || slices.Contains(ordinals, e.Ordinal) {
			n++
		}
	}
	return n
}

// Reset forgets the record; the hooks count from 0 again.
func (p *Tap) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = nil
}
