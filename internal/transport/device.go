// Package transport reaches a TPM: a kernel device, swtpm's socket, a software
// TPM of one's own, or somebody else's go-tpm transport. It moves commands and
// responses and looks at nothing but their headers.
//
// [Open] goes by name and gives a [Device], a go-tpm transport.TPMCloser.
//
// # Sharing
//
// A TPM serves one process at a time, so processes take turns. A Device has the
// kernel's device open, or is connected to the socket, only in a turn and for a
// few milliseconds after it: one command after the other then costs no new
// connection. It lets go after [quantum] at the latest, so that others get their
// turn. Loaded keys and sessions stay in the TPM between turns; [Device.Claim]
// tells other processes whose they are.
//
// The kernel's resource manager for TPM 2.0 (/dev/tpmrm0) is different: it serves
// all processes at once and frees what one has loaded when that closes the device.
// There a Device is open from the first turn until Close.
//
// # Concurrency
//
// A Device may be used by several goroutines; commands go out one by one. Who
// sends commands that belong together takes a turn with [Device.Acquire]
// first. A turn keeps out other processes and other calls of Acquire; it belongs
// to the Device and not to a goroutine, so that a Send without Acquire from
// elsewhere goes into the turn that is running.
//
// # Limitations
//
// Programs that hold a TPM while they are idle (tcsd, most others) keep everybody
// out. The emulator protects nothing: its keys are in a file.
package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// Device is an open TPM. Close it after use.
type Device struct {
	name    string
	link    link
	waits   waits
	managed bool          // the link is a lastingLink
	turns   chan struct{} // holds one token while a turn runs
	life    context.Context
	die     context.CancelFunc // by Close

	// wire is held while the link is used. It guards what follows, and comes
	// before mu.
	wire  sync.Mutex
	epoch uint64
	up    bool      // the link has begun
	since time.Time // when it did

	book   sync.Mutex // guards the claims
	ledger *ledger
	asked  func()
	shut   bool // no claims any more

	mu     sync.Mutex // guards what is below
	turn   context.Context
	idle   *time.Timer // ends the link after a turn
	closed bool
}

// linger is how long the link stays up after a turn, for a next one: longer than
// a program takes between two signatures that it makes in a row.
const linger = 3 * time.Millisecond

// quantum is how long the link stays up at most while turn follows turn.
const quantum = 40 * time.Millisecond

// link is one way of reaching a TPM. Device calls it under Device.wire.
type link interface {
	// begin waits until no other process uses the TPM. restarted says that the
	// TPM was started anew since the last begin: what was loaded is lost.
	begin(ctx context.Context) (restarted bool, err error)
	end()
	exchange(cmd []byte) ([]byte, error)
	close() error
}

var _ transport.TPMCloser = (*Device)(nil)

func newDevice(name string, l link, w waits) *Device {
	_, managed := l.(lastingLink)
	d := &Device{name: name, link: l, waits: w, managed: managed, turns: make(chan struct{}, 1)}
	d.life, d.die = context.WithCancel(context.Background())
	d.idle = time.AfterFunc(time.Hour, d.rest)
	d.idle.Stop()
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
func (d *Device) Managed() bool { return d.managed }

// Connected sees, in a turn, that there is a connection, a new one where the last
// was lost, and counts the restarts of the TPM that were noticed: what was loaded
// in an earlier epoch is lost. Not every restart can be noticed.
func (d *Device) Connected() (epoch uint64, err error) {
	d.wire.Lock()
	defer d.wire.Unlock()
	turn, err := d.running()
	if err == nil {
		err = d.raise(turn)
	}
	return d.epoch, err
}

// Send sends one command, in a turn of its own unless one is running, and
// returns the TPM's response, which the caller owns. Its header has been
// checked, the result code is the caller's to read. With ErrGone the connection
// was lost, and the next Send makes a new one; with ErrNotSent besides, the
// command was not carried out.
func (d *Device) Send(cmd []byte) ([]byte, error) {
	if err := checkCommand(cmd); err != nil {
		return nil, err
	}
	if rsp, err := d.sendInTurn(cmd); err != errNoTurn {
		return rsp, err
	}
	release, err := d.Acquire(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	return d.sendInTurn(cmd)
}

var errNoTurn = errors.New("no turn is running")

func (d *Device) sendInTurn(cmd []byte) ([]byte, error) {
	d.wire.Lock()
	defer d.wire.Unlock()
	turn, err := d.running()
	if err != nil {
		return nil, err
	}
	if err := d.raise(turn); err != nil {
		return nil, &notSent{err}
	}
	rsp, err := d.link.exchange(cmd)
	if err == nil {
		err = checkResponse(rsp)
	}
	if err != nil {
		d.down()
		return nil, d.explain(err)
	}
	return rsp, nil
}

// explain gives a failed exchange its kind, unless the link knows better.
func (d *Device) explain(err error) error {
	var known *opError
	if errors.As(err, &known) {
		return err
	}
	return failure("use", d.name, ErrGone, "%w", err)
}

// Hurry says that the Device will be closed: a TPM that is not there is not waited
// for any more, by what is under way neither.
func (d *Device) Hurry() {
	if h, ok := d.link.(hastyLink); ok {
		h.hurry()
	}
}

// A hastyLink would wait for a TPM to come back. hurry may be called at any time.
type hastyLink interface{ hurry() }

// Close gives the TPM back, after the command that is under way. A turn that
// is running ends. Close may be called twice.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.die()
	d.idle.Stop()
	d.mu.Unlock()
	d.wire.Lock()
	defer d.wire.Unlock()
	d.down()
	d.forgetClaims(true)
	return d.link.close()
}

// running is the context of the turn that is running.
func (d *Device) running() (context.Context, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return nil, err
	}
	if d.turn == nil {
		return nil, errNoTurn
	}
	return d.turn, nil
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

func (f foreign) begin(context.Context) (bool, error) { return false, nil }
func (f foreign) end()                                {}
func (f foreign) exchange(cmd []byte) ([]byte, error) { return f.Send(cmd) }
func (f foreign) close() error                        { return f.Close() }
