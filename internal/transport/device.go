// Package transport reaches a TPM: a kernel device, swtpm's socket, a software
// TPM of this project's own, or a go-tpm transport of the caller's. It moves commands
// and responses and looks only at their headers; for the kernel's resource manager
// also at what kind of context a command loads.
//
// [Open] goes by name and gives a [Device], a go-tpm transport.TPMCloser.
//
// # Sharing
//
// A bare TPM (/dev/tpm0, a socket, the emulator) serves one process at a time, so
// processes take turns. A Device has it open in a turn only, from [Device.Acquire] to
// release; who has it open owns what is loaded in it. A connection that breaks stays
// broken for the rest of the turn.
//
// The kernel's resource manager for TPM 2.0 (/dev/tpmrm0) is different: it serves
// all processes at once and frees what one has loaded when that closes the device.
// There a Device is open from the first turn until Close. So is a transport of the
// caller's, which is all the caller's.
//
// # Concurrency
//
// A Device may be used by several goroutines; commands go out one by one. Take a
// turn with [Device.Acquire] for commands that belong together. A turn keeps out
// other processes and other calls of Acquire; it belongs to the Device and not to a
// goroutine, so a Send without Acquire from elsewhere goes into the turn that is
// running.
//
// # Limitations
//
// Programs that hold a TPM while they are idle (tcsd, most others) keep everybody
// out. The emulator protects nothing: its keys are in a file.
package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport/frame"
)

// Device is an open TPM. Close it after use.
type Device struct {
	name  string
	link  link
	waits waits
	turns chan struct{} // holds one token while a turn runs
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	// linkMu is held while the link is used. It guards what follows, and is locked
	// before mu.
	linkMu    sync.Mutex
	connected bool   // the link has begun
	opened    uint64 // how often it has
	// busySince is since when the TPM cannot be had; zero if it could the last time.
	busySince time.Time

	mu       sync.Mutex // guards what is below
	turn     bool       // one is running
	deadline time.Time
	closed   bool
}

// link is one way of reaching a TPM. Device calls it under Device.linkMu.
type link interface {
	// begin waits until no other process uses the TPM.
	begin(ctx context.Context) error
	end()
	// exchange sends a command, and gives up waiting for the response after limit.
	exchange(cmd []byte, limit time.Duration) ([]byte, error)
	close() error
}

// A sharedLink keeps nobody out, and what was loaded over it is lost when it ends:
// between turns it stays up.
type sharedLink interface{ shared() }

var _ transport.TPMCloser = (*Device)(nil)

func newDevice(name string, l link, w waits) *Device {
	d := &Device{name: name, link: l, waits: w, turns: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Wrap makes a Device of somebody else's transport, which it owns from then
// on; name is for messages. Errors of t are passed on with ErrGone, and the
// next Send tries again.
func Wrap(t transport.TPMCloser, name string) *Device {
	return newDevice(name, foreign{t}, defaultWaits())
}

// Name returns the name under which the TPM was found, with nothing left out:
// what Open("") chose, the emulator's directory.
func (d *Device) Name() string { return d.name }

// Emulator reports whether this is the software TPM that Open started, which
// protects nothing.
func (d *Device) Emulator() bool {
	_, ok := d.link.(setupLink)
	return ok
}

// Managed reports whether this is the kernel's resource manager. There every Device
// has handles of its own, for three objects and three sessions, that nobody else can
// take or fill. But numbers of sessions are those of all users: a session that this
// Device did not open is somebody else's, and could be flushed by mistake.
func (d *Device) Managed() bool {
	_, ok := d.link.(sharedLink)
	return ok
}

// Bare reports whether one process at a time has the TPM, and owns what is loaded in it.
func (d *Device) Bare() bool { return !d.Managed() && !d.isForeign() }

func (d *Device) isForeign() bool {
	_, ok := d.link.(foreign)
	return ok
}

// Acquire begins a turn: until release is called no other Acquire of this
// Device succeeds, and no other process that takes turns reaches a bare TPM. It
// waits for its turn until ctx is done, and for other processes at most the time
// that the TPM was opened with; then the error is ErrBusy, and names who has a device.
// What the caller has waited since a time, where it is not zero, counts, if nobody of this
// process got the TPM meanwhile. Turns do not nest. release may be called twice.
func (d *Device) Acquire(ctx context.Context, since time.Time) (release func(), err error) {
	select {
	case d.turns <- struct{}{}:
	case <-d.ctx.Done():
		return nil, d.usable()
	case <-ctx.Done():
		return nil, failure("use", d.name, ErrBusy, "another turn of this program has not ended: %w", ctx.Err())
	}
	if err := d.begin(ctx, since); err != nil {
		<-d.turns
		return nil, err
	}
	return sync.OnceFunc(d.release), nil
}

func (d *Device) begin(ctx context.Context, since time.Time) error {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	if !d.connected {
		now := time.Now()
		if d.busySince.IsZero() {
			d.busySince = now
		}
		if since.IsZero() {
			since = now
		} else if since.Before(d.busySince) {
			since = d.busySince
		}
		left := max(d.waits.turn-now.Sub(since), minWait)
		ctx, cancel := context.WithTimeoutCause(ctx, left, errWaitOver)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		err := d.link.begin(ctx)
		if closed := d.usable(); closed != nil {
			if err == nil {
				d.link.end()
			}
			return closed
		}
		if err != nil {
			return err
		}
		d.connected, d.busySince = true, time.Time{}
		d.opened++
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn = true
	return d.usableLocked()
}

// minWait is for who has waited long enough already.
const minWait = 10 * time.Millisecond

// errWaitOver is the cause of a context that ended because the TPM's own limit for
// waiting had passed, and not the caller's.
var errWaitOver = errors.New("it took too long")

func (d *Device) release() {
	d.linkMu.Lock()
	if d.Bare() {
		d.drop()
	}
	d.mu.Lock()
	d.turn = false
	d.mu.Unlock()
	d.linkMu.Unlock()
	<-d.turns
}

// Opened counts how often the TPM was opened or connected to: what was loaded before
// the last time is not there any more, or not this Device's.
func (d *Device) Opened() uint64 {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	return d.opened
}

// Connected reports whether the connection of the turn that runs holds still.
func (d *Device) Connected() bool {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	return d.connected
}

// Drop breaks the connection, for the rest of the turn: what came over it was no answer.
// Somebody else's transport stays as it is.
func (d *Device) Drop() {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	d.drop()
}

func (d *Device) drop() {
	if d.connected && !d.isForeign() {
		d.link.end()
		d.connected = false
	}
}

// SetDeadline sets when commands that get no answer are given up, however long they
// may take otherwise; the zero time takes it back.
func (d *Device) SetDeadline(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = at
}

// Send sends one command, in a turn of its own unless one is running, and
// returns the TPM's response, which the caller owns. Its header has been
// checked, the result code is the caller's to read. With ErrGone the connection
// was lost, and the next turn makes a new one; with ErrNotSent besides, the
// command was not carried out.
func (d *Device) Send(cmd []byte) ([]byte, error) {
	if err := frame.CheckCommand(cmd); err != nil {
		return nil, err
	}
	if rsp, err := d.sendInTurn(cmd); err != errNoTurn {
		return rsp, err
	}
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		return nil, err
	}
	defer release()
	return d.sendInTurn(cmd)
}

var errNoTurn = errors.New("no turn is running")

func (d *Device) sendInTurn(cmd []byte) ([]byte, error) {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	limit, err := d.limit(cmd)
	if err != nil {
		return nil, err
	}
	if !d.connected {
		return nil, &notSent{failure("use", d.name, ErrGone, "the connection was lost before")}
	}
	rsp, err := d.link.exchange(cmd, limit)
	if err == nil {
		err = frame.CheckResponse(rsp)
	}
	if err != nil {
		d.drop()
		return nil, d.explain(err)
	}
	return rsp, nil
}

// minLimit is what even a command gets that comes after the deadline.
const minLimit = 100 * time.Millisecond

// limit is how long a command may take, in the turn that is running.
func (d *Device) limit(cmd []byte) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return 0, err
	}
	if !d.turn {
		return 0, errNoTurn
	}
	limit := d.waits.limitOf(cmd)
	if !d.deadline.IsZero() {
		limit = min(limit, max(minLimit, time.Until(d.deadline)))
	}
	return limit, nil
}

// explain gives a failed exchange its kind, unless the link knows better.
func (d *Device) explain(err error) error {
	var known *opError
	if errors.As(err, &known) {
		return err
	}
	return failure("use", d.name, ErrGone, "%w", err)
}

// StopWaiting says that the Device will be closed: a TPM that is not there is not waited
// for any more, by what is under way neither.
func (d *Device) StopWaiting() {
	if h, ok := d.link.(waitingLink); ok {
		h.stopWaiting()
	}
}

// A waitingLink would wait for a TPM to come back. stopWaiting may be called at any time.
type waitingLink interface{ stopWaiting() }

// Close gives the TPM back, after the command that is under way. A turn that
// is running ends. Close may be called twice.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.cancel()
	d.mu.Unlock()
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	d.drop()
	return d.link.close()
}

func (d *Device) usable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usableLocked()
}

func (d *Device) usableLocked() error {
	if d.closed {
		return failure("use", d.name, ErrGone, "it was closed by this program")
	}
	return nil
}

// foreign is somebody else's transport.
type foreign struct{ transport.TPMCloser }

func (f foreign) begin(context.Context) error                          { return nil }
func (f foreign) end()                                                 {}
func (f foreign) exchange(cmd []byte, _ time.Duration) ([]byte, error) { return f.Send(cmd) }
func (f foreign) close() error                                         { return f.Close() }

// setupLink is a link to a software TPM that begins empty.
type setupLink interface {
	link
	setupNeeded() bool
	setupDone() error
}

// errNotEmulator is what only the emulator can do.
var errNotEmulator = errors.New("only the emulator can be set up by this program")

// SetupNeeded reports whether this is an emulator whose state was created by
// Open and whose setting up has not been finished with SetupDone. Ask it within
// a turn, and keep the turn until the TPM is set up: another process may be
// doing the same. A program killed on the way leaves it true, with any part of
// the work done.
func (d *Device) SetupNeeded() bool {
	s, ok := d.link.(setupLink)
	return ok && s.setupNeeded()
}

// SetupDone notes for all later users that the emulator is set up.
func (d *Device) SetupDone() error {
	s, ok := d.link.(setupLink)
	if !ok {
		return fmt.Errorf("set up %s: %w", d.name, errNotEmulator)
	}
	if err := s.setupDone(); err != nil {
		return fmt.Errorf("set up %s: %w", d.name, err)
	}
	return nil
}
