package tpm20

import (
	"errors"
	"slices"
)

// What became of a session that is not used any more.
type ending int

const (
	gone ending = iota // the TPM has ended it
	left               // it is open, or nobody knows
)

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

// EndShared is EndSessions for those that are not bound to one key.
func (c *Conn) EndShared() {
	var keep []*Session
	for s := range c.open {
		if s.bound != nil {
			keep = append(keep, s)
		}
	}
	c.EndSessions(keep...)
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
	if how == left {
		c.stale = append(c.stale, s.handle)
	}
}

// flushStale frees the sessions that may be open still. A refusal says that they
// are not.
func (c *Conn) flushStale() {
	for len(c.stale) > 0 {
		last := len(c.stale) - 1
		err := c.Flush(c.stale[last])
		var refused *Error
		if err != nil && (!errors.As(err, &refused) || busy(refused.code())) {
			return
		}
		c.stale = c.stale[:last]
	}
}
