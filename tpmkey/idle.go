package tpmkey

import "time"

// sessionIdle is how long sessions stay open unused behind the kernel's resource
// manager. It swaps them out with every command, and the chip bears only so many
// swaps (255 or 65535) of other sessions until it wants to see the oldest one again: an
// idle one would stop everybody. TPM 2.0 Library Part 1, section 30.5 (Context gap).
const sessionIdle = time.Second

// watchIdle sees that sessions do not stay open unused where that harms others. It is
// called at the end of each turn.
func (t *TPM) watchIdle() {
	if !t.dev.Managed() || t.closed || !t.chip.holds() {
		return
	}
	if t.idle == nil {
		t.idle = time.AfterFunc(sessionIdle, t.endIdle)
		return
	}
	t.idle.Reset(sessionIdle)
}

// endIdle ends the sessions that come back without a question. Those that do not are
// kept fresh: any command does that.
func (t *TPM) endIdle() {
	t.turn(func() error { // an error: there is nothing left to end
		t.chip.endSessions()
		if t.chip.holds() {
			_, err := t.chip.random(1)
			return err
		}
		return nil
	})
}
