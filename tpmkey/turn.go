package tpmkey

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// turn runs f while no other operation of this process, and no other process that
// shares the TPM, sends commands. f must not outlive it.
func (t *TPM) turn(f func() error) error {
	if err := t.enter(context.Background(), nil); err != nil {
		return err
	}
	defer t.queue.leave()
	return t.acquired(context.Background(), f)
}

// An outcome is what an operation of a key came to.
type outcome struct {
	data []byte
	err  error
}

// turnFor is turn for an operation that its caller may not wait for: then f goes
// on alone, and owns what it uses until cleanup, which is called in any case.
func (t *TPM) turnFor(ctx context.Context, alive func() error, f func() ([]byte, error), cleanup func()) ([]byte, error) {
	if err := t.enter(ctx, alive); err != nil {
		cleanup()
		return nil, err
	}
	fate := fateFor(ctx)
	run := func() (out outcome) {
		defer t.pass()
		defer cleanup()
		err := t.acquired(ctx, func() error {
			if !fate.settle(underWay) {
				return ctx.Err()
			}
			out.data, out.err = f()
			return out.err
		})
		return outcome{out.data, err}
	}
	if ctx.Done() == nil {
		out := run()
		return out.data, out.err
	}
	done := make(chan outcome, 1)
	go func() { done <- run() }()
	select {
	case out := <-done:
		return out.data, out.err
	case <-ctx.Done():
	}
	if !fate.settle(dropped) {
		return nil, gaveUp(ctx)
	}
	select { // whoever waits for another program is told in a moment which one
	case out := <-done:
		return nil, gaveUpBecause(ctx, out.err)
	case <-time.After(dropTime):
		return nil, gaveUp(ctx)
	}
}

// dropTime is how long the end of an operation is waited for that was dropped.
const dropTime = time.Second

// A fate is what came first: that an operation was begun, or that its caller left.
type fate struct{ atomic.Int32 }

const (
	underWay = 1 + iota
	dropped
)

// fateFor is nil for an operation whose caller cannot leave.
func fateFor(ctx context.Context) *fate {
	if ctx.Done() == nil {
		return nil
	}
	return new(fate)
}

// settle reports whether the fate is this one, which it makes it unless it was
// settled before.
func (f *fate) settle(as int32) bool {
	return f == nil || f.CompareAndSwap(0, as) || f.Load() == as
}

// pass ends a turn. The next operation gets to the TPM before this goroutine does
// anything else, such as verifying a signature: the TPM does not wait for that.
func (t *TPM) pass() {
	if t.queue.leave() {
		runtime.Gosched()
	}
}

func (t *TPM) enter(ctx context.Context, alive func() error) error {
	err := t.queue.enter(ctx, alive)
	if errors.Is(err, errQueueClosed) {
		return t.errClosed()
	}
	return err
}

func (t *TPM) errClosed() error { return fmt.Errorf("TPM %s: %w", t.dev.Name(), ErrClosed) }

// acquired runs f in this process's turn, on a TPM whose restarts are known.
func (t *TPM) acquired(ctx context.Context, f func() error) error {
	release, err := t.dev.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer t.watchIdle()
	if err := t.sync(); err != nil {
		return err
	}
	// Operations of keys have repaired this already: it is for the others.
	for again := 0; ; again++ {
		err = f()
		switch t.chip.condition(err) {
		case notStarted:
			if started := t.startUp(); started != nil {
				return started
			}
		case sessionGone: // somebody flushed it; the next one is new
		default:
			return err
		}
		if again == maxAgain {
			return err
		}
	}
}

// maxAgain is how often that is repaired: the key and the session that an operation of
// a TPM 2.0 takes may both be gone.
const maxAgain = 2

// sync takes note of a restart of the TPM, after which no handle means anything.
func (t *TPM) sync() error {
	epoch, err := t.dev.Connected()
	if err != nil {
		return err
	}
	if epoch != t.epoch {
		t.epoch = epoch
		t.forget()
	}
	was := t.sleep
	if ago, woke := t.sleep.woke(); woke && !t.dev.Managed() {
		reset, err := t.chip.wasReset(ago)
		if err != nil {
			t.sleep = was // it is asked again
			return err
		}
		if reset {
			t.forget()
		}
	}
	return nil
}

// startUp starts a TPM that nobody has started since its power came back: after a
// suspend that went wrong, or in swtpm without --flags startup-clear.
func (t *TPM) startUp() error {
	err := t.chip.startUp()
	if cond := t.chip.condition(err); cond != refused && cond != notStarted { // else it was started all the time
		t.forget()
	}
	return err
}

// forget forgets everything that was loaded: it is not there any more.
func (t *TPM) forget() {
	t.slots.forget()
	t.chip.forget()
}
