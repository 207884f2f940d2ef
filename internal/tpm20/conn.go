package tpm20

import (
	"context"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A Conn sends TPM 2.0 commands. It knows which objects and sessions in the TPM
// are its own.
type Conn struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration
	// Context, where set, is asked before such a wait for what ends it.
	Context func() context.Context
	// Claims, where set, is told of every transient object and session.
	Claims Claims

	tpm     transport.TPM
	current *exchange // the command under way, nil between two
	open    map[*Session]struct{}
	stale   []staleSession
	objects map[tpm2.TPMHandle]struct{}

	buf []byte // of commands marshalled by hand

	lacking bool // see Missed
}

// Claims keeps account of what this process has in the TPM. kind is 'k' for a
// transient object, 's' for a session. A handle is claimed once it is known, and
// released once it is gone, or of no meaning any more.
type Claims interface {
	Claim(kind byte, handle uint32)
	Release(kind byte, handle uint32)
	// Foreign reports whether another living process has claimed it.
	Foreign(kind byte, handle uint32) bool
}

// Kinds of claims.
const (
	claimObject  = 'k'
	claimSession = 's'
)

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{
		Patience: 10 * time.Second,
		tpm:      tpm,
		open:     map[*Session]struct{}{},
		objects:  map[tpm2.TPMHandle]struct{}{},
	}
}

// Forget forgets all objects and sessions without a command: the TPM was
// restarted, and no handle means anything any more. Who calls it too late frees
// handles that may by then be somebody else's.
func (c *Conn) Forget() {
	for s := range c.open {
		c.ended(s, gone)
	}
	for _, s := range c.stale {
		c.release(claimSession, s.handle)
	}
	c.stale = nil
	for h := range c.objects {
		c.Lost(h)
	}
}

// Lost forgets an object without a command: the TPM does not have it any more.
func (c *Conn) Lost(h tpm2.TPMHandle) {
	if _, ok := c.objects[h]; ok {
		delete(c.objects, h)
		c.release(claimObject, h)
	}
}

// Missed reports whether, since it was asked last, a command has had no answer that may
// have loaded something or opened a session: then that is there without a handle.
func (c *Conn) Missed() bool {
	missed := c.lacking
	c.lacking = false
	return missed
}

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// Owns reports whether an object or a session is this Conn's, as far as it knows;
// kind is that of Claims.
func (c *Conn) Owns(kind byte, handle uint32) bool {
	if kind == claimObject {
		_, ok := c.objects[tpm2.TPMHandle(handle)]
		return ok
	}
	return c.sessionOf(tpm2.TPMHandle(handle)) != nil
}

// sessionOf is the open session with a handle, nil where there is none.
func (c *Conn) sessionOf(h tpm2.TPMHandle) *Session {
	for s := range c.open {
		if s.handle == h {
			return s
		}
	}
	return nil
}

// gained notes a transient object that was loaded.
func (c *Conn) gained(h tpm2.TPMHandle) {
	if _, ok := c.objects[h]; !ok {
		c.objects[h] = struct{}{}
		c.claim(claimObject, h)
	}
}

// vanished notes that the TPM does not have what this handle was, an object or a
// session.
func (c *Conn) vanished(h tpm2.TPMHandle) {
	c.Lost(h)
	if s := c.sessionOf(h); s != nil {
		c.ended(s, gone)
	}
}

func (c *Conn) claim(kind byte, h tpm2.TPMHandle) {
	if c.Claims != nil {
		c.Claims.Claim(kind, uint32(h))
	}
}

func (c *Conn) release(kind byte, h tpm2.TPMHandle) {
	if c.Claims != nil {
		c.Claims.Release(kind, uint32(h))
	}
}
