package tpmtest

import (
	"bytes"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport/frame"
)

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
	record
}

// NewTap taps a transport, which it owns from then on.
func NewTap(inner transport.TPMCloser) *Tap { return &Tap{inner: inner} }

// Send passes a command on and records it as it was given, with the outcome as
// it was returned.
func (t *Tap) Send(cmd []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Exchange{Ordinal: frame.Code(cmd), Command: bytes.Clone(cmd)}
	e.Response, e.Err = t.send(len(t.log), bytes.Clone(cmd))
	t.log = append(t.log, e)
	return bytes.Clone(e.Response), e.Err
}

func (t *Tap) send(i int, cmd []byte) (rsp []byte, err error) {
	if t.Before != nil {
		if cmd, err = t.Before(i, cmd); err != nil {
			return nil, err
		}
	}
	rsp, err = t.inner.Send(cmd)
	if t.After != nil {
		rsp, err = t.After(i, cmd, rsp, err)
	}
	return rsp, err
}

// Close closes the tapped transport.
func (t *Tap) Close() error { return t.inner.Close() }

// Reset forgets the record; the hooks count from 0 again.
func (t *Tap) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = nil
}
