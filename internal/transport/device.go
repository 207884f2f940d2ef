// Package transport reaches a TPM: a kernel device, swtpm's socket, a software
// TPM of one's own, or somebody else's go-tpm transport. It moves commands and
// responses and looks at nothing but their headers.
//
// [Open] goes by name and gives a [Device], a go-tpm transport.TPMCloser.
//
// # Concurrency
//
// A Device may be used by several goroutines; commands go out one by one. Who
// sends commands that belong together takes a turn with [Device.Acquire]
// first. A turn keeps out other processes (on the emulator) and other calls of
// Acquire; it belongs to the Device and not to a goroutine, so that a Send
// without Acquire from elsewhere goes into the turn that is running.
//
// # Limitations
//
// A kernel device and a socket stay open until Close, and nobody else can use
// them meanwhile. The emulator protects nothing: its keys are in a file.
package transport

import (
	"errors"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// Device is an open TPM. Close it after use.
type Device struct {
	name  string
	link  link
	waits waits
	turns chan struct{} // holds one token while a turn runs
	done  chan struct{} // closed by Close

	mu     sync.Mutex // guards what is below, and the link
	inTurn bool
	closed bool
	gone   error // why the link is unusable
}

// link is one way of reaching a TPM. Device calls it under its mutex, except
// begin, and exchange only between begin and end.
type link interface {
	begin() error // waits for the turn
	end()
	exchange(cmd []byte) ([]byte, error)
	close() error
}

var _ transport.TPMCloser = (*Device)(nil)

func newDevice(name string, l link, w waits) *Device {
	return &Device{name: name, link: l, waits: w, turns: make(chan struct{}, 1), done: make(chan struct{})}
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

// Acquire begins a turn: until release is called no other Acquire of this
// Device succeeds, and on the emulator no other process reaches the TPM. It
// waits for its turn, on the emulator at most a minute for other processes;
// then the error is ErrBusy. Turns do not nest. release may be called twice.
func (d *Device) Acquire() (release func(), err error) {
	timer := time.NewTimer(d.waits.command)
	defer timer.Stop()
	select {
	case d.turns <- struct{}{}:
	case <-d.done:
		return nil, d.usable()
	case <-timer.C:
		return nil, failure("use", d.name, ErrBusy, "another turn of this program has not ended for %v", d.waits.command)
	}
	if err := d.usable(); err != nil {
		<-d.turns
		return nil, err
	}
	if err := d.link.begin(); err != nil {
		d.lost(err)
		<-d.turns
		return nil, err
	}
	d.mu.Lock()
	d.inTurn = true
	d.mu.Unlock()
	return sync.OnceFunc(d.release), nil
}

func (d *Device) release() {
	d.mu.Lock()
	d.inTurn = false
	d.link.end()
	d.mu.Unlock()
	<-d.turns
}

// Send sends one command, in a turn of its own unless one is running, and
// returns the TPM's response, which the caller owns. Its header has been
// checked, the result code is the caller's to read. After an error with
// ErrGone all later calls fail with it, too.
func (d *Device) Send(cmd []byte) ([]byte, error) {
	if err := checkCommand(cmd); err != nil {
		return nil, err
	}
	if rsp, err := d.sendInTurn(cmd); err != errNoTurn {
		return rsp, err
	}
	release, err := d.Acquire()
	if err != nil {
		return nil, err
	}
	defer release()
	return d.sendInTurn(cmd)
}

var errNoTurn = errors.New("no turn is running")

func (d *Device) sendInTurn(cmd []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return nil, err
	}
	if !d.inTurn {
		return nil, errNoTurn
	}
	rsp, err := d.link.exchange(cmd)
	if err == nil {
		err = checkResponse(rsp)
	}
	if err != nil {
		err = failure("use", d.name, ErrGone, "%w", err)
		d.lostLocked(err)
		return nil, err
	}
	return rsp, nil
}

// Close gives the TPM back, after the command that is under way. A turn that
// is running ends. Close may be called twice.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	close(d.done)
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
	return d.gone
}

func (d *Device) lost(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lostLocked(err)
}

// lostLocked remembers that the link fell out of step. A foreign transport may
// know how to mend itself.
func (d *Device) lostLocked(err error) {
	if _, ok := d.link.(foreign); !ok && d.gone == nil && errors.Is(err, ErrGone) {
		d.gone = err
	}
}

// foreign is somebody else's transport.
type foreign struct{ transport.TPMCloser }

func (f foreign) begin() error                        { return nil }
func (f foreign) end()                                {}
func (f foreign) exchange(cmd []byte) ([]byte, error) { return f.Send(cmd) }
func (f foreign) close() error                        { return f.Close() }
