// Package queue says which operation of this process has the TPM next. It knows no TPM.
package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Queue has the operations of this process that wait for the TPM, which does
// one thing at a time.
//
// Operations without a deadline are served in order of arrival. So are operations
// with a deadline or a client while the last of them can still be served in time. If
// not, the newest is served first: otherwise the TPM would work for clients that are
// about to give up. The two kinds alternate.
type Queue struct {
	mu           sync.Mutex
	busy         bool
	closed       bool
	ended        chan struct{} // made by close, closed when nobody is served any more
	noDeadline   []*waiter     // those that do not give up, oldest first
	withDeadline []*waiter     // those that may, oldest first
	last         bool          // the last one served was noDeadline
	began        time.Time     // when the one that is served was let in
	typical      time.Duration
	dropped      time.Time
}

// A waiter is an operation that waits for its turn.
type waiter struct {
	ctx   context.Context
	alive func() error // why nobody wants the result any more; may be nil
	until time.Time    // when it is expected to give up; zero if never
	let   chan error   // receives nil when its turn has come
}

// clientPatience is how long a client of the network is expected to wait.
const clientPatience = time.Second

// dropEvery is how often waiting operations are checked for disconnected clients.
const dropEvery = 50 * time.Millisecond

// Enter waits for the turn of an operation; nil means that it has come, and leave
// must follow.
func (q *Queue) Enter(ctx context.Context, alive func() error) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	if !q.busy {
		q.busy, q.began = true, time.Now()
		q.mu.Unlock()
		return q.stillWanted(ctx, alive)
	}
	w := &waiter{ctx: ctx, alive: alive, until: patience(ctx, alive), let: make(chan error, 1)}
	if w.until.IsZero() {
		q.noDeadline = append(q.noDeadline, w)
	} else {
		q.withDeadline = append(q.withDeadline, w)
	}
	q.mu.Unlock()
	select {
	case err := <-w.let:
		return err
	case <-ctx.Done():
		return q.quit(w)
	}
}

// stillWanted checks for the last time that somebody waits for the result. If nobody does, it
// ends the turn.
func (q *Queue) stillWanted(ctx context.Context, alive func() error) error {
	err := (&waiter{ctx: ctx, alive: alive}).gone()
	if err != nil {
		q.Leave()
	}
	return err
}

// quit removes a waiter whose context is done. If its turn has just come, quit passes it on.
func (q *Queue) quit(w *waiter) error {
	q.mu.Lock()
	waiting := remove(&q.noDeadline, w) || remove(&q.withDeadline, w)
	q.mu.Unlock()
	if !waiting && <-w.let == nil {
		q.Leave()
	}
	return GaveUp(w.ctx)
}

func remove(list *[]*waiter, w *waiter) bool {
	i := slices.Index(*list, w)
	if i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	return i >= 0
}

// GaveUp is the error of an operation whose caller did not wait for it.
func GaveUp(ctx context.Context) error {
	return GaveUpBecause(ctx, context.Cause(ctx))
}

// GaveUpBecause is GaveUp with more to say.
func GaveUpBecause(ctx context.Context, why error) error {
	if errors.Is(why, ctx.Err()) {
		return fmt.Errorf("gave up waiting for the TPM: %w", why)
	}
	return fmt.Errorf("gave up waiting for the TPM: %w: %w", ctx.Err(), why)
}

// patience is the time until which an operation is expected to wait.
func patience(ctx context.Context, alive func() error) time.Time {
	until, limited := ctx.Deadline()
	if alive == nil {
		return until // zero if there is none
	}
	if client := time.Now().Add(clientPatience); !limited || client.Before(until) {
		return client
	}
	return until
}

// gone says why an operation is not wanted any more.
func (w *waiter) gone() error {
	if w.ctx.Err() != nil {
		return GaveUp(w.ctx)
	}
	if w.alive != nil {
		return w.alive()
	}
	return nil
}

// Leave ends a turn and lets the next one in, if anybody waits.
func (q *Queue) Leave() (passed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if took := time.Since(q.began); took > time.Millisecond/10 { // else it did nothing
		q.typical += (took - q.typical) / 8
	}
	q.dropDisconnected()
	for w := q.next(); w != nil; w = q.next() {
		err := w.gone()
		w.let <- err
		if err == nil {
			q.began = time.Now()
			return true
		}
	}
	q.busy = false
	if q.closed {
		close(q.ended)
	}
	return false
}

// next removes and returns the operation to serve now; nil if none waits.
func (q *Queue) next() *waiter {
	list, index := &q.noDeadline, 0
	if len(q.noDeadline) == 0 || len(q.withDeadline) > 0 && q.last {
		list = &q.withDeadline
		if q.overloaded() {
			index = len(q.withDeadline) - 1
		}
	}
	if len(*list) == 0 {
		return nil
	}
	q.last = list == &q.noDeadline
	w := (*list)[index]
	*list = slices.Delete(*list, index, index+1)
	return w
}

// overloaded reports whether the newest would be served too late if it came last.
func (q *Queue) overloaded() bool {
	n := len(q.withDeadline)
	if n < 2 {
		return false
	}
	ahead := time.Duration(n) * q.typical
	if len(q.noDeadline) > 0 {
		ahead *= 2
	}
	return time.Now().Add(ahead).After(q.withDeadline[n-1].until)
}

// dropDisconnected drops operations whose client has disconnected. It does so at most every
// dropEvery. Deadlines wake their waiters by themselves.
func (q *Queue) dropDisconnected() {
	if time.Since(q.dropped) < dropEvery {
		return
	}
	q.dropped = time.Now()
	q.withDeadline = slices.DeleteFunc(q.withDeadline, func(w *waiter) bool {
		err := w.gone()
		if err != nil {
			w.let <- err
		}
		return err != nil
	})
}

// ErrClosed is the error of operations that wait when the queue is closed, or enter it later.
var ErrClosed = errors.New("the queue is closed")

// Close drops all waiting operations and returns when the current one has ended.
func (q *Queue) Close() {
	q.mu.Lock()
	var waiting []*waiter
	if !q.closed {
		q.closed, q.ended = true, make(chan struct{})
		waiting = append(q.noDeadline, q.withDeadline...)
		q.noDeadline, q.withDeadline = nil, nil
		if !q.busy {
			close(q.ended)
		}
	}
	q.mu.Unlock()
	for _, w := range waiting {
		w.let <- ErrClosed
	}
	<-q.ended
}
