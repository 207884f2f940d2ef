package tpm12

import (
	"context"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// A Handle names a key that the TPM has loaded. TPM Main Part 2, section 4.4.
type Handle uint32

// SRK is the handle of the storage root key, always loaded in an owned TPM.
const SRK Handle = 0x40000000 // TPM_KH_SRK

// A Conn sends TPM 1.2 commands. It knows which keys and sessions in the TPM are
// its own.
type Conn struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration
	// Context, where set, is asked before such a wait for what ends it.
	Context func() context.Context
	// Claims, where set, is told of every key and session.
	Claims Claims

	tpm     transport.TPM
	is12    bool // it has answered as a TPM 1.2 does
	keep    bool
	rolling *session // authorizes by any secret; nil: none
	open    map[*session]struct{}
	stale   []staleSession
	keys    map[Handle]struct{}

	params []byte // of the command under way
	buf    []byte // the command under way
	hash   hasher
}

// Claims keeps account of what this process has in the TPM. kind is 'k' for a
// key, 's' for a session. A handle is claimed once it is known, and released
// once it is gone, or of no meaning any more.
type Claims interface {
	Claim(kind byte, handle uint32)
	Release(kind byte, handle uint32)
	// Foreign reports whether another living process has claimed it.
	Foreign(kind byte, handle uint32) bool
}

// Kinds of claims.
const (
	claimKey     = 'k'
	claimSession = 's'
)

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{
		Patience: 10 * time.Second,
		tpm:      tpm,
		open:     map[*session]struct{}{},
		keys:     map[Handle]struct{}{},
		hash:     newHasher(),
	}
}

// Forget forgets all keys and sessions without a command: the TPM was restarted,
// and no handle means anything any more. Who calls it too late frees handles that
// may by then be somebody else's.
func (c *Conn) Forget() {
	for s := range c.open {
		c.ended(s, gone)
	}
	for _, s := range c.stale {
		c.release(claimSession, s.handle)
	}
	c.stale = nil
	for key := range c.keys {
		c.lost(key)
	}
}

// Lost forgets a key without a command: the TPM does not have it any more.
func (c *Conn) Lost(key Handle) { c.lost(key) }

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// Owns reports whether a key or a session is this Conn's, as far as it knows; kind is
// that of Claims.
func (c *Conn) Owns(kind byte, handle uint32) bool {
	if kind == claimKey {
		_, ok := c.keys[Handle(handle)]
		return ok
	}
	for s := range c.open {
		if s.handle == handle {
			return true
		}
	}
	return false
}

// gained notes a key that was loaded.
func (c *Conn) gained(key Handle) {
	c.keys[key] = struct{}{}
	c.claim(claimKey, uint32(key))
}

// lost notes that a key, and with it the sessions opened for it, are gone.
func (c *Conn) lost(key Handle) {
	for s := range c.open {
		if s.key == key {
			c.ended(s, gone)
		}
	}
	if _, ok := c.keys[key]; ok {
		delete(c.keys, key)
		c.release(claimKey, uint32(key))
	}
}

func (c *Conn) claim(kind byte, handle uint32) {
	if c.Claims != nil {
		c.Claims.Claim(kind, handle)
	}
}

func (c *Conn) release(kind byte, handle uint32) {
	if c.Claims != nil {
		c.Claims.Release(kind, handle)
	}
}
