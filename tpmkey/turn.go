package tpmkey

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// A turn is a time in which this process has the TPM. In a bare TPM nothing of this
// process is loaded before and after it: who has the TPM open owns what is loaded there.
// Behind the kernel's resource manager, and on a caller's transport, everything stays
// loaded, and each operation is a turn.
type turn struct {
	release func()
	began   time.Time         // when the first operation began
	last    time.Time         // when the last one ended
	brought time.Duration     // how long it took to bring in what the operations needed
	done    int               // operations
	freed   map[errClass]bool // what others had left was freed
	over    bool              // no operation follows
}

// turnRules say when a turn ends: when no work is left and none came for as long as
// bringing things in took, but at least and at most so long; or after so much time and so
// many operations, whichever is later. After last no operation begins.
type turnRules struct {
	time, last         time.Duration
	operations         int
	leastIdle, maxIdle time.Duration
}

// usualTurns leave a program the time to verify a signature, P-384 takes a millisecond,
// before it asks for the next one.
var usualTurns = turnRules{
	time: 40 * time.Millisecond, operations: 8, last: 600 * time.Millisecond,
	leastIdle: 2 * time.Millisecond, maxIdle: 100 * time.Millisecond,
}

// openTurn sees that this process has the TPM, and that nothing is loaded there that it
// lost sight of. It runs in the operation whose turn it is in this process.
func (t *TPM) openTurn(w *work) error {
	if t.turn != nil && !t.dev.Connected() {
		t.abandonTurn()
	}
	if t.turn == nil {
		release, err := t.dev.Acquire(w.ctx, w.since)
		if err != nil {
			return &noTurn{err}
		}
		t.turn = &turn{release: release}
		if opened := t.dev.Opened(); opened != t.opened {
			t.opened = opened
			t.forgetOthers()
		}
	}
	return t.clean()
}

// forgetOthers notes that others had the TPM, or may have had it. Keys stay in a TPM that
// does not save contexts.
func (t *TPM) forgetOthers() {
	if t.loaded.unsaved && t.dev.Bare() {
		t.chip.forget()
		return
	}
	t.forgetLoaded()
}

// A noTurn error is why there was no turn: nothing was sent.
type noTurn struct{ error }

func (e *noTurn) Unwrap() error { return e.error }

// clean frees everything that is loaded in a bare TPM, after something was loaded, or may
// have been, whose handle is not known: it can only be this process's, or was left behind.
func (t *TPM) clean() error {
	if !t.dirty {
		return nil
	}
	keys, sessions, err := t.chip.occupants()
	flush := func(handles []uint32, f func(uint32) error) {
		for _, h := range handles {
			if err == nil || t.chip.classOf(err) == classRefused { // what it does not give away is not this process's
				err = f(h)
			}
		}
	}
	flush(sessions, t.chip.flushSession) // first: a key takes along those that were opened for it
	flush(keys, t.chip.flushKey)
	switch t.chip.classOf(err) {
	case classNone, classRefused, classNotStarted: // before its start there is nothing
		t.dirty = false
		t.forgetLoaded()
		return nil
	}
	return err
}

// turnIsOver reports whether no other operation may begin in the turn.
func (t *TPM) turnIsOver() bool {
	u := t.turn
	if !t.dev.Bare() || u.over {
		return true
	}
	took := time.Since(u.began)
	return u.done > 0 && (took >= t.rules.last || took >= t.rules.time && u.done >= t.rules.operations)
}

// operation notes that one begins.
func (u *turn) operation(now time.Time, alone bool) {
	if u.done == 0 {
		u.began = now
	}
	u.done++
	u.over = alone
}

// endTurn takes what is loaded out of a bare TPM, and lets others have it.
func (t *TPM) endTurn() {
	if t.turn == nil {
		return
	}
	if !t.dev.Connected() {
		t.abandonTurn()
		return
	}
	if t.dev.Bare() {
		t.takeOut()
	}
	release := t.turn.release
	t.turn = nil
	release()
}

// abandonTurn ends a turn whose connection broke: its handles mean nothing any more.
func (t *TPM) abandonTurn() {
	t.forgetLoaded()
	t.dirty = t.dev.Bare()
	release := t.turn.release
	t.turn = nil
	release()
}

// leave lets the next operation of this process have the TPM; where none waits, the turn
// ends soon. The next one gets to the TPM before this goroutine does anything else, such
// as verifying a signature: the TPM does not wait for that.
func (t *TPM) leave() {
	if t.turn != nil {
		t.turn.last = time.Now()
		if t.turnIsOver() {
			t.endTurn()
		}
	}
	t.watchIdle()
	if t.queue.leave() {
		runtime.Gosched()
	}
}

// sessionIdle is how long sessions stay open unused behind the kernel's resource
// manager. It swaps them out with every command, and the chip bears only so many
// swaps (255 or 65535) of other sessions until it wants to see the oldest one again: an
// idle one would stop everybody. TPM 2.0 Library Part 1, section 30.5 (Context gap).
const sessionIdle = time.Second

// idleTime is for how long a process that has nothing to do leaves things as they are;
// negative where there is nothing to end.
func (t *TPM) idleTime() time.Duration {
	switch {
	case t.turn != nil:
		return min(max(t.turn.brought, t.rules.leastIdle), t.rules.maxIdle)
	case t.dev.Managed() && !t.closed && t.chip.holds():
		return sessionIdle
	}
	return -1
}

// watchIdle sees that an idle process keeps nobody waiting. It is called at the end of
// each operation.
func (t *TPM) watchIdle() {
	d := t.idleTime()
	switch {
	case d < 0:
	case t.idle == nil:
		t.idle = time.AfterFunc(d, t.endIdle)
	default:
		t.idle.Reset(d)
	}
}

// endIdle ends a turn in which nothing is done any more. Behind the resource manager it
// ends the sessions that come back without a question; those that do not are kept fresh,
// which any command does.
func (t *TPM) endIdle() {
	if t.endIfIdle() {
		t.do(&work{run: func(loadedKey, authData) ([]byte, error) { // an error: there is nothing left to end
			t.chip.endSessions()
			if t.chip.holds() {
				return t.chip.random(1)
			}
			return nil, nil
		}})
	}
}

// endIfIdle ends the turn unless an operation came meanwhile, and reports whether there
// was none, as behind the resource manager.
func (t *TPM) endIfIdle() bool {
	if t.queue.enter(noLimit, nil) != nil {
		return false
	}
	defer t.queue.leave()
	if t.turn == nil {
		return t.dev.Managed()
	}
	if rest := t.idleTime() - time.Since(t.turn.last); rest > 0 {
		t.idle.Reset(rest)
		return false
	}
	t.endTurn()
	return false
}

// enter waits until no other operation of this process has the TPM.
func (t *TPM) enter(ctx context.Context, alive func() error) error {
	err := t.queue.enter(ctx, alive)
	if errors.Is(err, errQueueClosed) {
		return t.errClosed()
	}
	return err
}
