// Package transport connects to a TPM: a kernel device, swtpm's socket, a software TPM that
// this project starts (the emulator), or a go-tpm transport of the caller. It carries
// commands and responses and looks only at their headers. For the kernel's resource manager
// it also looks at the kind of context that a command loads.
//
// [Open] takes a name and returns a [Device], a go-tpm transport.TPMCloser.
//
// # Sharing
//
// A bare TPM (/dev/tpm0, a socket, the emulator) serves one process at a time, so processes
// take turns. A Device opens it in [Device.Acquire] and closes it in release. Whoever has
// it open owns what is loaded in it. A connection that breaks stays broken for the rest of
// the turn.
//
// The kernel's resource manager for TPM 2.0 (/dev/tpmrm0) serves all processes at once. It
// frees what a process has loaded when that process closes the device. A Device keeps it
// open from the first turn until Close. A transport of the caller stays open in the same
// way.
//
// # Concurrency
//
// Several goroutines may use a Device; it sends one command at a time. Use [Device.Acquire]
// for commands that belong together. A turn excludes other processes and other calls of
// Acquire. It belongs to the Device, not to a goroutine: a Send without Acquire from
// another goroutine joins the turn that is running.
//
// # Limitations
//
// Programs that hold a TPM while they are idle (tcsd and most others) lock everybody out.
// The emulator protects nothing: its keys are in a file.
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

// A Device is an open TPM. Close it after use.
type Device struct {
	name     string
	link     link
	timeouts timeouts
	turns    chan struct{} // holds one token while a turn runs
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	// linkMu is held while the link is used. It guards the fields up to busySince. Lock it
	// before mu.
	linkMu    sync.Mutex
	connected bool   // the link is connected
	opened    uint64 // number of connections so far
	// busySince is when the TPM was first found busy; zero if the last attempt succeeded.
	busySince time.Time

	mu       sync.Mutex // guards the fields below
	turn     bool       // a turn is running
	deadline time.Time
	closed   bool
}

// A link is one way to reach a TPM. Device calls it with Device.linkMu held.
type link interface {
	// connect waits until no other process uses the TPM, and opens it.
	connect(ctx context.Context) error
	disconnect()
	// exchange sends a command and waits for the response for at most limit.
	exchange(cmd []byte, limit time.Duration) ([]byte, error)
	close() error
}

// A sharedLink does not exclude other processes. Disconnecting it loses what was loaded
// over it, so it stays connected between turns.
type sharedLink interface{ shared() }

var _ transport.TPMCloser = (*Device)(nil)

func newDevice(name string, l link, w timeouts) *Device {
	d := &Device{name: name, link: l, timeouts: w, turns: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Wrap makes a Device of a transport of the caller, and takes ownership of it. name is for
// messages. It reports errors of t with ErrGone; the next Send tries again.
func Wrap(t transport.TPMCloser, name string) *Device {
	return newDevice(name, wrappedLink{t}, defaultTimeouts())
}

// Name returns the full name of the TPM: with the device that Open("") chose, or the
// emulator's directory.
func (d *Device) Name() string { return d.name }

// Emulator reports whether this is the software TPM that Open started. It protects nothing.
func (d *Device) Emulator() bool {
	_, ok := d.link.(setupLink)
	return ok
}

// Managed reports whether this is the kernel's resource manager. There every Device has its
// own handles for three objects and three sessions, and other processes cannot use or fill
// them. But the list of sessions shows those of all processes: a session that this Device
// did not open belongs to another process, and must not be flushed.
func (d *Device) Managed() bool {
	_, ok := d.link.(sharedLink)
	return ok
}

// Bare reports whether one process at a time has the TPM and owns what is loaded in it.
func (d *Device) Bare() bool { return !d.Managed() && !d.isForeign() }

func (d *Device) isForeign() bool {
	_, ok := d.link.(wrappedLink)
	return ok
}

// Acquire begins a turn. Until release is called, no other Acquire of this Device succeeds,
// and no other process that takes turns reaches a bare TPM. Acquire waits for other turns
// of this Device until ctx is done. It waits for other processes no longer than the time
// that was given to Open; then the error is ErrBusy and names the process that has a device
// open.
//
// If since is not zero, the caller has waited since then. That time counts, unless this
// process got the TPM in between. Turns do not nest. release may be called twice.
func (d *Device) Acquire(ctx context.Context, since time.Time) (release func(), err error) {
	select {
	case d.turns <- struct{}{}:
	case <-d.ctx.Done():
		return nil, d.usable()
	case <-ctx.Done():
		return nil, failure("use", d.name, ErrBusy, "another turn of this program has not ended: %w", ctx.Err())
	}
	if err := d.startTurn(ctx, since); err != nil {
		<-d.turns
		return nil, err
	}
	return sync.OnceFunc(d.endTurn), nil
}

func (d *Device) startTurn(ctx context.Context, since time.Time) error {
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
		left := max(d.timeouts.turn-now.Sub(since), minTurnWait)
		ctx, cancel := context.WithTimeoutCause(ctx, left, errWaitTimeout)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		err := d.link.connect(ctx)
		if closed := d.usable(); closed != nil {
			if err == nil {
				d.link.disconnect()
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

// minTurnWait is how long Acquire waits when the caller has used up its time already.
const minTurnWait = 10 * time.Millisecond

// errWaitTimeout is the cause of a context that ended because the Device's own limit for
// waiting passed, not the caller's.
var errWaitTimeout = errors.New("it took too long")

func (d *Device) endTurn() {
	d.linkMu.Lock()
	if d.Bare() {
		d.disconnect()
	}
	d.mu.Lock()
	d.turn = false
	d.mu.Unlock()
	d.linkMu.Unlock()
	<-d.turns
}

// Opened returns how often the TPM was opened or connected to. What was loaded before the
// last time is lost, or belongs to another process.
func (d *Device) Opened() uint64 {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	return d.opened
}

// Connected reports whether the connection of the current turn still works.
func (d *Device) Connected() bool {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	return d.connected
}

// Drop ends the connection for the rest of the turn, because a response did not make sense.
// It does not close a transport of the caller.
func (d *Device) Drop() {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	d.disconnect()
}

func (d *Device) disconnect() {
	if d.connected && !d.isForeign() {
		d.link.disconnect()
		d.connected = false
	}
}

// SetDeadline sets when Send stops waiting for a response, whatever the command's own
// limit. The zero time removes the deadline.
func (d *Device) SetDeadline(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = at
}

// Send sends one command and returns the TPM's response, which the caller owns. Without a
// turn it takes one. It checks the response's header; the caller reads the result code.
// ErrGone says that the connection was lost; the next turn makes a new one. ErrNotSent says
// besides that the TPM did not get the command.
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
		d.disconnect()
		return nil, d.explain(err)
	}
	return rsp, nil
}

// minTimeout is the time that a command gets after the deadline has passed.
const minTimeout = 100 * time.Millisecond

// limit returns how long a command may take in the current turn.
func (d *Device) limit(cmd []byte) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return 0, err
	}
	if !d.turn {
		return 0, errNoTurn
	}
	limit := d.timeouts.forCommand(cmd)
	if !d.deadline.IsZero() {
		limit = min(limit, max(minTimeout, time.Until(d.deadline)))
	}
	return limit, nil
}

// explain adds ErrGone to the error of an exchange, unless the link has given it a kind.
func (d *Device) explain(err error) error {
	var known *opError
	if errors.As(err, &known) {
		return err
	}
	return failure("use", d.name, ErrGone, "%w", err)
}

// StopWaiting says that the Device will be closed. Calls that wait for a TPM to come back,
// also those that are running, stop waiting.
func (d *Device) StopWaiting() {
	if h, ok := d.link.(waitingLink); ok {
		h.stopWaiting()
	}
}

// A waitingLink waits for a TPM to come back. stopWaiting may be called at any time.
type waitingLink interface{ stopWaiting() }

// Close waits for the command that is running, ends the turn and closes the TPM. It may be
// called twice.
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
	d.disconnect()
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

// A wrappedLink is a transport of the caller.
type wrappedLink struct{ transport.TPMCloser }

func (f wrappedLink) connect(context.Context) error                        { return nil }
func (f wrappedLink) disconnect()                                          {}
func (f wrappedLink) exchange(cmd []byte, _ time.Duration) ([]byte, error) { return f.Send(cmd) }
func (f wrappedLink) close() error                                         { return f.Close() }

// A setupLink reaches a software TPM that has to be set up when it is new.
type setupLink interface {
	link
	setupNeeded() bool
	setupDone() error
}

var errNotEmulator = errors.New("only the emulator can be set up by this program")

// SetupNeeded reports whether Open created this emulator's state, and SetupDone was not
// called since. Call it within a turn, and keep the turn until the TPM is set up: another
// process may be setting it up. It stays true if the program is killed during the setup,
// which may then be done in part.
func (d *Device) SetupNeeded() bool {
	s, ok := d.link.(setupLink)
	return ok && s.setupNeeded()
}

// SetupDone records for all later users that the emulator is set up.
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
