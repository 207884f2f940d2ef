package tpm20

import (
	"context"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A Conn sends TPM 2.0 commands. It knows which sessions in the TPM are its own.
type Conn struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration
	// Context, where set, is asked before such a wait for what ends it.
	Context func() context.Context

	tpm     transport.TPM
	current *exchange // the command under way, nil between two
	open    map[*Session]struct{}
	stale   []tpm2.TPMHandle // sessions that are not used any more, and may be open

	buf []byte // of commands marshalled by hand
}

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{
		Patience: 10 * time.Second,
		tpm:      tpm,
		open:     map[*Session]struct{}{},
	}
}

// Forget forgets all sessions without a command: the TPM was restarted, or belongs to
// somebody else by now, and no handle means anything any more. Saved ones stay.
func (c *Conn) Forget() {
	for s := range c.open {
		c.ended(s, gone)
	}
	c.stale = nil
}

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// Owns reports whether an open session is this Conn's, as far as it knows.
func (c *Conn) Owns(session tpm2.TPMHandle) bool { return c.sessionOf(session) != nil }

// sessionOf is the open session with a handle, nil where there is none.
func (c *Conn) sessionOf(h tpm2.TPMHandle) *Session {
	for s := range c.open {
		if s.handle == h {
			return s
		}
	}
	return nil
}

// vanished notes that the TPM does not have what this handle was, if it was a session.
func (c *Conn) vanished(h tpm2.TPMHandle) {
	if s := c.sessionOf(h); s != nil {
		c.ended(s, gone)
	}
}
