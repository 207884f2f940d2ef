package keymgr

import (
	"context"
	"errors"
	"runtime"
	"time"

	"maclef/internal/chip"
	"maclef/internal/queue"
)

// A turn is a time during which this process has the TPM. Before and after it nothing of
// this process is loaded in a bare TPM: whoever has that open owns what is loaded. Behind
// the kernel's resource manager, and on a caller's transport, keys stay loaded and each
// operation is a turn.
type turn struct {
	release func()
	began   time.Time              // when the first operation began
	last    time.Time              // when the last one ended
	loading time.Duration          // how long loading keys and sessions took
	done    int                    // operations
	freed   map[chip.ErrClass]bool // orphans of this class were flushed
	over    bool                   // no operation follows
}

// turnRules say when a turn ends. It ends when no operation came for as long as loading
// took, but at least leastIdle and at most maxIdle; and after time and operations,
// whichever is later. No operation begins later than last.
type turnRules struct {
	time, last         time.Duration
	operations         int
	leastIdle, maxIdle time.Duration
}

// usualTurns leave a program time to verify a signature before it asks for the next one;
// P-384 takes a millisecond.
var usualTurns = turnRules{
	time: 40 * time.Millisecond, operations: 8, last: 600 * time.Millisecond,
	leastIdle: 2 * time.Millisecond, maxIdle: 100 * time.Millisecond,
}

// openTurn gets the TPM, unless this process has it, and flushes what may be loaded under
// unknown handles. The caller must be the operation that the queue let in.
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
			m.noteOthersHadTPM()
		}
	}
	return m.clean()
}

// noteOthersHadTPM records that other processes may have had the TPM. Keys stay loaded in a
// TPM that cannot save contexts.
func (m *Manager) noteOthersHadTPM() {
	if m.loaded.unsaved && m.dev.Bare() {
		m.chip.EndSessions(chip.Forget)
		return
	}
	m.noteAllUnloaded()
}

// A noTurn error says why the TPM could not be had. Nothing was sent.
type noTurn struct{ error }

func (e *noTurn) Unwrap() error { return e.error }

// clean flushes everything that is loaded in a bare TPM, if something may be loaded there
// under an unknown handle. It belongs to this process, or was left by another one.
func (m *Manager) clean() error {
	if !m.dirty {
		return nil
	}
	for _, kind := range []chip.Kind{chip.Sessions, chip.Keys} { // flushing a key ends sessions
		err := m.flushAll(kind)
		if m.chip.ClassOf(err) == chip.ClassNotStarted {
			break // nothing is loaded before it is started
		}
		if err != nil && m.mayRetry(err) {
			return err
		}
	}
	m.dirty = false
	m.noteAllUnloaded()
	return nil
}

// flushAll flushes everything of a kind. What the TPM refuses to flush is not this
// process's.
func (m *Manager) flushAll(kind chip.Kind) error {
	handles, err := m.chip.Loaded(kind)
	for _, h := range handles {
		if err = m.chip.Flush(kind, h); err != nil && m.mayRetry(err) {
			return err
		}
	}
	return err
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

// operation records that an operation begins.
func (u *turn) operation(now time.Time, alone bool) {
	if u.done == 0 {
		u.began = now
	}
	u.done++
	u.over = alone
}

// endTurn unloads everything from a bare TPM and releases the TPM.
func (m *Manager) endTurn() {
	if m.turn == nil {
		return
	}
	if !m.dev.Connected() {
		m.abandonTurn()
		return
	}
	if m.dev.Bare() {
		m.unloadAll()
	}
	release := m.turn.release
	m.turn = nil
	release()
}

// abandonTurn ends a turn whose connection broke: its handles are not valid any more.
func (m *Manager) abandonTurn() {
	m.noteAllUnloaded()
	m.dirty = m.dev.Bare()
	release := m.turn.release
	m.turn = nil
	release()
}

// leave lets the next operation of this process have the TPM. If none waits, the turn ends
// soon. The next operation runs before this goroutine goes on, for example to verify a
// signature, so that the TPM does not wait for that.
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

// sessionIdle is how long unused sessions stay open behind the kernel's resource manager,
// which saves them after every command. The TPM allows only 255 or 65535 saves of other
// sessions until the oldest one must be loaded again: an idle session would stop everybody. TPM 2.0 Library Part 1, section 30.5 (Context gap).
const sessionIdle = time.Second

// idleTime is how long this process keeps the TPM, or its sessions, without an operation.
// It is negative if there is nothing to end.
func (m *Manager) idleTime() time.Duration {
	switch {
	case m.turn != nil:
		return min(max(m.turn.loading, m.rules.leastIdle), m.rules.maxIdle)
	case m.dev.Managed() && !m.closed && m.holdsSessions():
		return sessionIdle
	}
	return -1
}

// watchIdle starts the timer that ends an idle turn. It is called at the end of each
// operation.
func (m *Manager) watchIdle() {
	d := m.idleTime()
	switch {
	case d < 0:
	case m.idle == nil:
		m.idle = time.AfterFunc(d, m.endIdleTurn)
	default:
		m.idle.Reset(d)
	}
}

// endIdleTurn ends an idle turn. Behind the resource manager it ends the sessions that can
// be opened again without asking for a secret. For the others it sends a command, which has
// the resource manager load and save them again.
func (m *Manager) endIdleTurn() {
	if m.endIfIdle() {
		m.Run(noLimit, func() error { // on error there is nothing to end
			m.chip.EndSessions(chip.EndAll)
			if m.holdsSessions() {
				_, err := m.chip.Random(1)
				return err
			}
			return nil
		})
	}
}

// endIfIdle ends the turn unless an operation came meanwhile. It reports whether this is a
// resource manager, where each operation is a turn.
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

// enter waits until the queue lets this operation in.
func (m *Manager) enter(ctx context.Context, alive func() error) error {
	err := m.queue.Enter(ctx, alive)
	if errors.Is(err, queue.ErrClosed) {
		return m.errClosed()
	}
	return err
}
