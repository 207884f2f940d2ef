package tpmconn

import (
	"iter"
	"maps"
)

// An Ending is the state in the TPM of a session that is no longer used.
type Ending int

// Values of Ending.
const (
	Gone  Ending = iota // the TPM does not have the session
	Stale               // the session may still be open
)

// SessionOpened records that a session is in the TPM: a new or a restored one.
func (c *Conn[S]) SessionOpened(s S) { c.open[s] = struct{}{} }

// SessionSaved records that a session was saved: it is not in the TPM, and can be restored.
func (c *Conn[S]) SessionSaved(s S) { delete(c.open, s) }

// SessionEnded records that a session is no longer used. A Stale one is flushed later, by
// FlushStale: a command that fails must not take longer than one that succeeds, because the time
// could reveal what was wrong with a ciphertext.
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

// FlushStale flushes the stale sessions. flush flushes one; done is false if the TPM did not
// answer.
func (c *Conn[S]) FlushStale(flush func(handle uint32) (done bool)) {
	for len(c.stale) > 0 {
		last := len(c.stale) - 1
		if !flush(c.stale[last]) {
			return
		}
		c.stale = c.stale[:last]
	}
}

// Forget removes all open sessions from the record and sends nothing. It is for a TPM that was
// restarted, or that another process uses now: the handles mean nothing any more. Saved sessions
// stay.
func (c *Conn[S]) Forget() {
	for s := range c.open {
		c.SessionEnded(s, Gone)
	}
	c.stale = nil
}

// Open returns the sessions that are open in the TPM, as far as this Conn knows. The caller may
// end sessions during the iteration.
func (c *Conn[S]) Open() iter.Seq[S] { return maps.Keys(c.open) }

// SessionOf returns the open session with this handle.
func (c *Conn[S]) SessionOf(handle uint32) (s S, ok bool) {
	for s := range c.open {
		if c.handle(s) == handle {
			return s, true
		}
	}
	return s, false
}

// Owns reports whether this Conn has opened the session with this handle.
func (c *Conn[S]) Owns(handle uint32) bool {
	_, ok := c.SessionOf(handle)
	return ok
}

// Holds reports whether sessions of this Conn are or may be open in the TPM.
func (c *Conn[S]) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// OwnSessions returns the handles of this Conn's open sessions. more reports whether stale
// sessions may be open besides.
func (c *Conn[S]) OwnSessions() (open []uint32, more bool) {
	for s := range c.open {
		open = append(open, c.handle(s))
	}
	return open, len(c.stale) > 0
}
