package transport

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Acquire begins a turn: until release is called no other Acquire of this
// Device succeeds, and no other process that takes turns reaches the TPM. It
// waits for its turn until ctx is done, and for other processes at most the time
// that the TPM was opened with; then the error is ErrBusy and names who has the
// TPM, where that can be known. Turns do not nest. release may be called twice.
//
// ctx counts for waiting in the whole turn, after a lost connection, too.
func (d *Device) Acquire(ctx context.Context) (release func(), err error) {
	select {
	case d.turns <- struct{}{}:
	case <-d.life.Done():
		return nil, d.usable()
	case <-ctx.Done():
		return nil, failure("use", d.name, ErrBusy, "another turn of this program has not ended: %w", ctx.Err())
	}
	if err := d.begin(ctx); err != nil {
		<-d.turns
		return nil, err
	}
	return sync.OnceFunc(d.release), nil
}

func (d *Device) begin(ctx context.Context) error {
	d.mu.Lock()
	if err := d.usableLocked(); err != nil {
		d.mu.Unlock()
		return err
	}
	d.turn = ctx
	d.mu.Unlock()
	d.wire.Lock()
	defer d.wire.Unlock()
	if d.up && !d.managed && time.Since(d.since) > quantum {
		d.down()
		if p, ok := d.link.(politeLink); ok {
			p.makeWay()
		}
	}
	err := d.raise(ctx)
	if err != nil {
		d.mu.Lock()
		d.turn = nil
		d.mu.Unlock()
	}
	return err
}

// raise begins the link unless it is up; d.wire is held.
func (d *Device) raise(ctx context.Context) error {
	if d.up {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.waits.turn, errWaited)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	restarted, err := d.link.begin(ctx)
	if restarted {
		d.forgetClaims(false)
		d.epoch++
	}
	if err != nil {
		if closed := d.usable(); closed != nil {
			return closed
		}
		return err
	}
	d.up, d.since = true, time.Now()
	return nil
}

// errWaited is the cause of a context that ended because the TPM's own limit for
// waiting had passed, and not the caller's.
var errWaited = errors.New("it took too long")

// A lastingLink keeps nobody out, and what was loaded over it is lost when it ends:
// between turns it stays up.
type lastingLink interface{ lasts() }

// A politeLink leaves those who wait a moment to come in.
type politeLink interface{ makeWay() }

func (d *Device) down() {
	if d.up {
		d.link.end()
		d.up = false
	}
}

func (d *Device) release() {
	d.mu.Lock()
	d.turn = nil
	if !d.closed && !d.managed {
		d.idle.Reset(linger)
	}
	d.mu.Unlock()
	<-d.turns
}

// rest ends the link of a Device that is idle.
func (d *Device) rest() {
	d.wire.Lock()
	defer d.wire.Unlock()
	d.mu.Lock()
	working := d.turn != nil
	d.mu.Unlock()
	if !working {
		d.down()
	}
}
