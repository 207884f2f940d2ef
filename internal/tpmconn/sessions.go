package tpmconn

import (
	"iter"
	"maps"
)

// An Ending is what became of a session that is not used any more.
type Ending int

// What becomes of sessions.
const (
	Gone  Ending = iota // the TPM has ended it
	Stale               // it is open, or nobody knows
)

// SessionOpened notes a session that is in the TPM: a new one, or one that was restored.
func (c *Conn[S]) SessionOpened(s S) { c.open[s] = struct{}{} }

// SessionSaved notes that a session is not in the TPM any more, and can be restored.
func (c *Conn[S]) SessionSaved(s S) { delete(c.open, s) }

// SessionEnded notes that a session is not used any more. Where it is not known to be
// gone, it is freed later, by FlushStale: no command may take longer because it failed,
// lest somebody learn from the time what was wrong with a ciphertext.
func (c *Conn[S]) SessionEnded(s S, how Ending) {
	if _, open := c.open[s]; !open {
		return
	}
	delete(c.open, s)
	c.end(s)
	if how == Stale {
		c.stale = append(c.stale, c.handle(s))
	}
}

// FlushStale frees the sessions that may be open still. flush frees one, and reports
// whether the TPM has answered that it did, or that it has none such.
func (c *Conn[S]) FlushStale(flush func(handle uint32) (done bool)) {
	for len(c.stale) > 0 {
		last := len(c.stale) - 1
		if !flush(c.stale[last]) {
			return
		}
		c.stale = c.stale[:last]
	}
}

// Forget forgets all sessions without a command: the TPM was restarted, or belongs to
// somebody else by now, and no handle means anything any more. Saved ones stay.
func (c *Conn[S]) Forget() {
	for s := range c.open {
		c.SessionEnded(s, Gone)
	}
	c.stale = nil
}

// Open returns the sessions that are open in the TPM, as far as this Conn knows. They
// may be ended meanwhile.
func (c *Conn[S]) Open() iter.Seq[S] { return maps.Keys(c.open) }

// SessionOf returns the open session with a handle, if there is one.
func (c *Conn[S]) SessionOf(handle uint32) (s S, ok bool) {
	for s := range c.open {
		if c.handle(s) == handle {
			return s, true
		}
	}
	return s, false
}

// Owns reports whether an open session is this Conn's, as far as it knows.
func (c *Conn[S]) Owns(handle uint32) bool {
	_, ok := c.SessionOf(handle)
	return ok
}

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn[S]) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// OwnSessions returns the handles of this Conn's open sessions. more says that there may be
// others that were given up and not freed yet.
func (c *Conn[S]) OwnSessions() (open []uint32, more bool) {
	for s := range c.open {
		open = append(open, c.handle(s))
	}
	return open, len(c.stale) > 0
}
