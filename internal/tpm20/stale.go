package tpm20

import (
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// What became of a session that is not used any more.
type ending int

const (
	gone    ending = iota // the TPM has ended it
	disused               // it is open
	unsure                // nobody knows
)

// A staleSession is not used any more, and to be freed.
type staleSession struct {
	handle tpm2.TPMHandle
	how    ending
}

// EndSessions frees every session of this Conn that is, or may be, open, but for
// those to keep; what cannot be freed for want of a connection is tried again next
// time.
func (c *Conn) EndSessions(keep ...*Session) {
	for s := range c.open {
		if !slices.Contains(keep, s) {
			s.Close()
		}
	}
	c.flushStale()
}

// ended notes that a session is not used any more. Where it is not known to be
// gone, it is freed later: no command may take longer because it failed, lest
// somebody learn from the time what was wrong with a ciphertext.
func (c *Conn) ended(s *Session, how ending) {
	if !s.alive {
		return
	}
	delete(c.open, s)
	s.alive = false
	clear(s.key)
	if how == gone {
		c.release(claimSession, s.handle)
	} else {
		c.stale = append(c.stale, staleSession{s.handle, how})
	}
}

// flushStale frees the sessions that may be open still. A refusal says that they
// are not. Where nobody knows whether one has ended, a handle that somebody else
// has claimed meanwhile is the other's session.
func (c *Conn) flushStale() {
	for len(c.stale) > 0 {
		last := c.stale[len(c.stale)-1]
		if last.how == disused || c.Claims == nil || !c.Claims.Foreign(claimSession, uint32(last.handle)) {
			err := c.Flush(last.handle)
			var refused *Error
			if err != nil && (!errors.As(err, &refused) || busy(refused.code())) {
				return
			}
		}
		c.release(claimSession, last.handle)
		c.stale = c.stale[:len(c.stale)-1]
	}
}

// Renew ends all sessions, as ones that may be somebody else's by now.
func (c *Conn) Renew() {
	for s := range c.open {
		c.ended(s, unsure)
	}
}
