package tpmkey

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// work is something to be done in a turn.
type work struct {
	ctx   context.Context // of who waits for it; nil for ever
	alive func() error    // why nobody waits for it any more; may be nil
	key   *keyState       // what it is done with; nil for work without a key file
	// run does it, with the key loaded and its secret, where it needs that. A nil one just
	// loads the key.
	run func(in loadedKey, secret authData) ([]byte, error)
	// verify checks the result, after the turn; may be nil.
	verify func(result []byte) error
	// final says that it must not be done twice where nobody knows whether it was done.
	final bool
	// alone says that it makes a key: nothing else is done in its turn.
	alone bool
	// since is when somebody began to wait for it; zero for now.
	since time.Time
}

var noLimit = context.Background()

// do does work, and repairs what can be repaired. A caller who does not wait any more
// leaves; then work that has begun goes on alone.
func (t *TPM) do(w *work) ([]byte, error) {
	if w.ctx == nil {
		w.ctx = noLimit
	}
	w.since = time.Now()
	if w.ctx.Done() == nil {
		return t.perform(w, nil)
	}
	fate := new(fate)
	type outcome struct {
		data []byte
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		data, err := t.perform(w, fate)
		done <- outcome{data, err}
	}()
	select {
	case out := <-done:
		return out.data, out.err
	case <-w.ctx.Done():
	}
	if !fate.claim(dropped) {
		return nil, gaveUp(w.ctx)
	}
	select { // whoever waits for another program is told in a moment which one
	case out := <-done:
		if out.err == nil {
			return nil, gaveUp(w.ctx)
		}
		return nil, gaveUpBecause(w.ctx, out.err)
	case <-time.After(dropTime):
		return nil, gaveUp(w.ctx)
	}
}

// dropTime is how long the end of an operation is waited for that was dropped.
const dropTime = 400 * time.Millisecond

// A fate is what came first: that an operation was begun, or that its caller left.
type fate struct{ atomic.Int32 }

const (
	underWay = 1 + iota
	dropped
)

// claim reports whether the fate is this one, which it makes it unless it was
// settled before. A nil one is that of an operation whose caller cannot leave.
func (f *fate) claim(as int32) bool {
	return f == nil || f.CompareAndSwap(0, as) || f.Load() == as
}

// simply does work without a key and a result.
func (t *TPM) simply(f func() error) error {
	_, err := t.do(&work{run: func(loadedKey, authData) ([]byte, error) { return nil, f() }})
	return err
}

// finally is simply for what must not be done twice.
func (t *TPM) finally(f func() error) error {
	_, err := t.do(&work{final: true, run: func(loadedKey, authData) ([]byte, error) { return nil, f() }})
	return err
}

// exclusively runs f while no other operation of this process has the TPM.
func (t *TPM) exclusively(f func() error) error {
	if err := t.enter(noLimit, nil); err != nil {
		return err
	}
	defer t.leave()
	return f()
}

func (t *TPM) errClosed() error { return fmt.Errorf("TPM %s: %w", t.dev.Name(), ErrClosed) }
