package keymgr

import (
	"context"
	"errors"
	"maclef/internal/chip"
	"maclef/internal/queue"
	"runtime"
	"time"
)

// A turn is a time in which this process has the TPM. In a bare TPM nothing of this
// process is loaded before and after it: who has the TPM open owns what is loaded there.
// Behind the kernel's resource manager, and on a caller's transport, everything stays
// loaded, and each operation is a turn.
type turn struct {
	release func()
	began   time.Time              // when the first operation began
	last    time.Time              // when the last one ended
	brought time.Duration          // how long it took to bring in what the operations needed
	done    int                    // operations
	freed   map[chip.ErrClass]bool // what others had left was freed
	over    bool                   // no operation follows
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
func (m *Manager) openTurn(w *Work) error {
	if m.turn != nil && !m.dev.Connected() {
		m.abandonTurn()
	}
	if m.turn == nil {
		release, err := m.dev.Acquire(w.Ctx, w.since)
		if err != nil {
			return &noTurn{err}
		}
		m.turn = &turn{release: release}
		if opened := m.dev.Opened(); opened != m.opened {
			m.opened = opened
			m.forgetOthers()
		}
	}
	return m.clean()
}

// forgetOthers notes that others had the TPM, or may have had it. Keys stay in a TPM that
// does not save contexts.
func (m *Manager) forgetOthers() {
	if m.loaded.unsaved && m.dev.Bare() {
		m.chip.EndSessions(chip.Forget)
		return
	}
	m.forgetLoaded()
}

// A noTurn error is why there was no turn: nothing was sent.
type noTurn struct{ error }

func (e *noTurn) Unwrap() error { return e.error }

// clean frees everything that is loaded in a bare TPM, after something was loaded, or may
// have been, whose handle is not known: it can only be this process's, or was left behind.
func (m *Manager) clean() error {
	if !m.dirty {
		return nil
	}
	var err error
	for _, kind := range []chip.Kind{chip.Sessions, chip.Keys} { // a key takes along those that were opened for it
		if err = m.flushAll(kind, err); err != nil && m.chip.ClassOf(err) != chip.ClassRefused {
			break
		}
	}
	switch m.chip.ClassOf(err) {
	case chip.ClassNone, chip.ClassRefused, chip.ClassNotStarted: // before its start there is nothing
		m.dirty = false
		m.forgetLoaded()
		return nil
	}
	return err
}

// flushAll frees all that is loaded of a kind. What the TPM does not give away is not this
// process's; before is an error of that kind.
func (m *Manager) flushAll(kind chip.Kind, before error) error {
	handles, err := m.chip.Loaded(kind)
	if err != nil {
		return err
	}
	for _, h := range handles {
		if err := m.chip.Flush(kind, h); err != nil {
			before = err
			if m.chip.ClassOf(err) != chip.ClassRefused {
				break
			}
		}
	}
	return before
}

// turnIsOver reports whether no other operation may begin in the turn.
func (m *Manager) turnIsOver() bool {
	u := m.turn
	if !m.dev.Bare() || u.over {
		return true
	}
	took := time.Since(u.began)
	return u.done > 0 && (took >= m.rules.last || took >= m.rules.time && u.done >= m.rules.operations)
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
func (m *Manager) endTurn() {
	if m.turn == nil {
		return
	}
	if !m.dev.Connected() {
		m.abandonTurn()
		return
	}
	if m.dev.Bare() {
		m.takeOut()
	}
	release := m.turn.release
	m.turn = nil
	release()
}

// abandonTurn ends a turn whose connection broke: its handles mean nothing any more.
func (m *Manager) abandonTurn() {
	m.forgetLoaded()
	m.dirty = m.dev.Bare()
	release := m.turn.release
	m.turn = nil
	release()
}

// leave lets the next operation of this process have the TPM; where none waits, the turn
// ends soon. The next one gets to the TPM before this goroutine does anything else, such
// as verifying a signature: the TPM does not wait for that.
func (m *Manager) leave() {
	if m.turn != nil {
		m.turn.last = time.Now()
		if m.turnIsOver() {
			m.endTurn()
		}
	}
	m.watchIdle()
	if m.queue.Leave() {
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
func (m *Manager) idleTime() time.Duration {
	switch {
	case m.turn != nil:
		return min(max(m.turn.brought, m.rules.leastIdle), m.rules.maxIdle)
	case m.dev.Managed() && !m.closed && m.holdsSessions():
		return sessionIdle
	}
	return -1
}

// watchIdle sees that an idle process keeps nobody waiting. It is called at the end of
// each operation.
func (m *Manager) watchIdle() {
	d := m.idleTime()
	switch {
	case d < 0:
	case m.idle == nil:
		m.idle = time.AfterFunc(d, m.endIdle)
	default:
		m.idle.Reset(d)
	}
}

// endIdle ends a turn in which nothing is done any more. Behind the resource manager it
// ends the sessions that come back without a question; those that do not are kept fresh,
// which any command does.
func (m *Manager) endIdle() {
	if m.endIfIdle() {
		m.Run(noLimit, func() error { // an error: there is nothing left to end
			m.chip.EndSessions(chip.EndAll)
			if m.holdsSessions() {
				_, err := m.chip.Random(1)
				return err
			}
			return nil
		})
	}
}

// endIfIdle ends the turn unless an operation came meanwhile, and reports whether there
// was none, as behind the resource manager.
func (m *Manager) endIfIdle() bool {
	if m.queue.Enter(noLimit, nil) != nil {
		return false
	}
	defer m.queue.Leave()
	if m.turn == nil {
		return m.dev.Managed()
	}
	if rest := m.idleTime() - time.Since(m.turn.last); rest > 0 {
		m.idle.Reset(rest)
		return false
	}
	m.endTurn()
	return false
}

// enter waits until no other operation of this process has the TPM.
func (m *Manager) enter(ctx context.Context, alive func() error) error {
	err := m.queue.Enter(ctx, alive)
	if errors.Is(err, queue.ErrClosed) {
		return m.errClosed()
	}
	return err
}
