package tpmtest

import (
	"bytes"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport/frame"
)

// A Tap stands between a program and its TPM. It records commands and responses and lets a
// test change them. It is safe for concurrent use. It calls the hooks one at a time.
type Tap struct {
	// Before may replace a command, or return an error, so that the TPM does not get it. i
	// counts the commands from 0. Nil changes nothing.
	Before func(i int, cmd []byte) ([]byte, error)
	// After may replace the response or the error. Nil changes nothing.
	After func(i int, cmd, rsp []byte, err error) ([]byte, error)

	inner transport.TPMCloser
	record
}

// NewTap makes a Tap for a transport and takes ownership of it.
func NewTap(inner transport.TPMCloser) *Tap { return &Tap{inner: inner} }

// Send passes a command on. It records the command as the caller gave it, and the result as
// the caller gets it.
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

// Close closes the transport.
func (t *Tap) Close() error { return t.inner.Close() }

// Reset clears the record. The hooks count from 0 again.
func (t *Tap) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = nil
}
