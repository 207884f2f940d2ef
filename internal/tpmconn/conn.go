// Package tpmconn is what connections to TPMs of both generations have in common: it
// keeps account of the sessions that a connection has opened, and sends commands again
// while the TPM is busy.
package tpmconn

import (
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// A Conn is a connection whose sessions are of type S. It is not safe for concurrent
// use.
type Conn[S comparable] struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration
	// TPM is where commands go.
	TPM transport.TPM

	handle func(S) uint32
	end    func(S)
	open   map[S]struct{}
	stale  []uint32 // sessions that are not used any more, and may be open
}

// New returns a Conn over tpm. handle gives the handle of a session, and end is called
// when one is not used any more: it forgets what the session's secret was.
func New[S comparable](tpm transport.TPM, handle func(S) uint32, end func(S)) Conn[S] {
	return Conn[S]{Patience: 10 * time.Second, TPM: tpm, handle: handle, end: end, open: map[S]struct{}{}}
}

// Drop breaks the connection, on a transport that can, after an answer that made no sense.
func (c *Conn[S]) Drop() {
	if d, ok := c.TPM.(interface{ Drop() }); ok {
		d.Drop()
	}
}

// An Unanswered command has no answer that can be trusted: the connection was
// lost, or the reply is malformed. It may have been carried out, unless the cause
// says that it was not sent.
type Unanswered struct {
	Secret bool // it was authorized by a secret, and the TPM may have looked at that
	Cause  error
}

func (e *Unanswered) Error() string { return e.Cause.Error() }
func (e *Unanswered) Unwrap() error { return e.Cause }

// SecretTried is Secret, for chip.SecretTried.
func (e *Unanswered) SecretTried() bool { return e.Secret }
