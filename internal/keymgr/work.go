package keymgr

import (
	"context"
	"sync/atomic"
	"time"

	"maclef/internal/chip"
	"maclef/internal/queue"
)

// Work is something to be done while this process has the TPM.
type Work struct {
	Ctx   context.Context // of who waits for it; nil for ever
	Alive func() error    // why nobody waits for it any more; may be nil
	// Key is what Op is done with. A nil Op just loads it.
	Key *Key
	Op  *chip.Operation
	// Func is work without a key.
	Func func() error
	// Once says that it must not be done twice where nobody knows whether it was done.
	Once bool
	// Alone says that it makes a key: nothing else is done in its turn.
	Alone bool

	since time.Time // when somebody began to wait for it
}

var noLimit = context.Background()

// Do does work and recovers from errors where it can. It returns when the context ends; an
// operation that has begun then goes on without its caller.
func (m *Manager) Do(w *Work) ([]byte, error) {
	if w.Ctx == nil {
		w.Ctx = noLimit
	}
	w.since = time.Now()
	if w.Ctx.Done() == nil {
		return m.perform(w, nil)
	}
	state := new(opState)
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := m.perform(w, state)
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-w.Ctx.Done():
	}
	if !state.becomes(abandoned) {
		return nil, queue.GaveUp(w.Ctx)
	}
	select { // the operation may know for which program it waited
	case r := <-done:
		if r.err == nil {
			return nil, queue.GaveUp(w.Ctx)
		}
		return nil, queue.GaveUpBecause(w.Ctx, r.err)
	case <-time.After(abandonTime):
		return nil, queue.GaveUp(w.Ctx)
	}
}

// abandonTime is how long Do waits for the error of an abandoned operation.
const abandonTime = 400 * time.Millisecond

// An opState says what came first: that the operation began, or that its caller left.
type opState struct{ atomic.Int32 }

const (
	underWay = 1 + iota
	abandoned
)

// becomes sets the state unless it is set, and reports whether it is this one now. It is
// nil for an operation whose caller cannot leave.
func (s *opState) becomes(state int32) bool {
	return s == nil || s.CompareAndSwap(0, state) || s.Load() == state
}

// Run does work without a key.
func (m *Manager) Run(ctx context.Context, f func() error) error {
	_, err := m.Do(&Work{Ctx: ctx, Func: f})
	return err
}

// RunOnce is Run for what must not be done twice.
func (m *Manager) RunOnce(ctx context.Context, f func() error) error {
	_, err := m.Do(&Work{Ctx: ctx, Once: true, Func: f})
	return err
}

// exclusively runs f while no other operation of this process has the TPM.
func (m *Manager) exclusively(f func() error) error {
	if err := m.enter(noLimit, nil); err != nil {
		return err
	}
	defer m.leave()
	return f()
}
