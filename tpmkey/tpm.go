package tpmkey

import (
	"errors"
	"fmt"
	"io"
	"sync"

	tpmtransport "github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport"
)

// A TPM is an open TPM. Close it to free what was loaded there.
type TPM struct {
	mu     sync.Mutex // held while commands go to the chip
	dev    *transport.Device
	chip   chip
	keys   map[*Key]struct{} // those not closed yet
	closed bool
}

// Open opens the TPM that name stands for:
//
//	/dev/tpm0        a device (any path)
//	unix:PATH        the data channel of a software TPM (swtpm), a Unix socket
//	tcp:HOST:PORT    the same over TCP
//	emulator[:DIR]   a software TPM of our own over a state directory, by default
//	                 maclef/tpm12 in $XDG_STATE_HOME or ~/.local/state; it is
//	                 created on first use, and protects nothing
//	(empty)          $TPMKEY_TPM, or else this machine's first TPM device
//
// Errors: ErrNoTPM, ErrPermission, ErrBusy, ErrNoSWTPM; one of no kind for a name
// of another form.
func Open(name string) (*TPM, error) {
	dev, err := transport.Open(name)
	if err != nil {
		return nil, err
	}
	return open(dev)
}

// OpenTransport uses a TPM that is open already, by any of go-tpm's
// transports. The TPM owns t from then on: Close closes it.
func OpenTransport(t tpmtransport.TPMCloser) (*TPM, error) {
	if t == nil {
		return nil, errors.New("open TPM: the transport is nil")
	}
	return open(transport.Wrap(t, "transport"))
}

// open finds out which TPM dev is, and sets a new software TPM up. It closes
// dev where it fails.
func open(dev *transport.Device) (*TPM, error) {
	t := &TPM{dev: dev, keys: make(map[*Key]struct{})}
	err := t.turn(func() (err error) {
		t.chip, err = newChip(dev)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dev.Name(), err), dev.Close())
	}
	return t, nil
}

// Name returns the name that the TPM was opened by, with defaults filled in.
func (t *TPM) Name() string { return t.dev.Name() }

// Emulator reports whether this is the software TPM of Open("emulator"), which
// protects nothing.
func (t *TPM) Emulator() bool { return t.dev.Emulator() }

// String names the TPM, for logs.
func (t *TPM) String() string { return "TPM " + t.Name() }

// Format hides everything but String's text from package fmt: keys have secrets.
func (t *TPM) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// Close frees what was loaded into the TPM and closes it. Its keys cannot be
// used afterwards.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	var err error
	if len(t.keys) > 0 {
		err = t.acquired(t.flushKeys)
	}
	for k := range t.keys { // those that no turn could be had for
		k.forget()
	}
	return errors.Join(err, t.dev.Close())
}

// flushKeys closes every key that is still open.
func (t *TPM) flushKeys() error {
	var errs []error
	for k := range t.keys {
		errs = append(errs, k.shut())
	}
	return errors.Join(errs...)
}

// turn runs f while no other goroutine, and no other process that shares the
// TPM, sends commands.
func (t *TPM) turn(f func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("TPM %s: %w", t.dev.Name(), ErrClosed)
	}
	return t.acquired(f)
}

// acquired runs f in this process's turn; t.mu is held.
func (t *TPM) acquired(f func() error) error {
	release, err := t.dev.Acquire()
	if err != nil {
		return err
	}
	defer release()
	return f()
}
