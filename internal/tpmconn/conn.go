// Package tpmconn is the part of a TPM connection that is the same for both generations: it
// tracks the sessions that the connection opened, and repeats commands while the TPM is busy.
package tpmconn

import (
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// A Conn is a connection whose sessions are of type S. It is not safe for concurrent
// use.
type Conn[S comparable] struct {
	// Patience is how long a command is repeated while the TPM is busy or testing itself; New
	// sets 10 seconds. With 0 the first busy answer is an error.
	Patience time.Duration
	// TPM is the transport that commands are sent over.
	TPM transport.TPM

	handle func(S) uint32
	end    func(S)
	open   map[S]struct{}
	stale  []uint32 // handles of sessions that are no longer used, but may be open
}

// New returns a Conn over tpm. handle returns a session's handle. end is called when a session is
// no longer used; it clears the session's secret.
func New[S comparable](tpm transport.TPM, handle func(S) uint32, end func(S)) Conn[S] {
	return Conn[S]{Patience: 10 * time.Second, TPM: tpm, handle: handle, end: end, open: map[S]struct{}{}}
}

// Drop breaks the connection after an invalid reply, if the transport can do that.
func (c *Conn[S]) Drop() {
	if d, ok := c.TPM.(interface{ Drop() }); ok {
		d.Drop()
	}
}

// An Unanswered is the error of a command whose reply is missing or cannot be trusted: the
// connection was lost, or the reply is malformed. The command may have been executed, unless
// Cause says that it was not sent.
type Unanswered struct {
	Secret bool // a secret authorized the command, and the TPM may have checked it
	Cause  error
}

func (e *Unanswered) Error() string { return e.Cause.Error() }
func (e *Unanswered) Unwrap() error { return e.Cause }

// SecretTried returns Secret; chip.SecretTried calls it.
func (e *Unanswered) SecretTried() bool { return e.Secret }
