package tpmkey

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	tpmtransport "github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport"
)

// A TPM is an open TPM. Close it to free what was loaded there.
type TPM struct {
	dev   *transport.Device
	chip  chip
	wait  time.Duration
	queue queue
	// closing is held while the TPM is being closed.
	closing sync.Mutex

	// What follows belongs to the operation whose turn it is.
	epoch uint64
	keys  map[*held]struct{} // those not closed yet
	slots slots
	idle  *time.Timer // see watchIdle; nil until it is needed
	sleep sleepWatch
	// proved marks an SRK secret that the TPM has accepted, refused one that it has
	// refused; nil if none.
	proved, refused []byte
	salt            [32]byte // of marks
	closed          bool
}

// OpenOptions say how to share a TPM. The zero value, or a nil pointer, is what
// Open uses.
type OpenOptions struct {
	// Wait is how long an operation waits for other programs that use the TPM, and
	// at most 10 seconds of it for a TPM that restarts or tests itself; 0 stands
	// for a minute.
	Wait time.Duration
}

// defaultWait is OpenOptions.Wait.
const defaultWait = time.Minute

// Open opens the TPM that name stands for:
//
//	/dev/tpmrm0      a device (any path); this one is the kernel's resource manager for
//	                 TPM 2.0, which serves several programs at once
//	unix:PATH        the data channel of a software TPM (swtpm), a Unix socket
//	tcp:HOST:PORT    the same over TCP
//	emulator[:DIR]   a software TPM 1.2 of our own over a state directory, by default
//	                 maclef/tpm12 in $XDG_STATE_HOME or ~/.local/state; it is
//	                 created on first use, and protects nothing
//	emulator2[:DIR]  the same with a TPM 2.0, by default in maclef/tpm20
//	(empty)          $TPMKEY_TPM, or else this machine's first TPM device, /dev/tpmrm0
//	                 before /dev/tpm0
//
// Other programs can use the TPM at the same time, if they take turns as this one
// does.
//
// Errors: ErrNoTPM, ErrPermission, ErrBusy, ErrNoSWTPM; one of no kind for a name
// of another form.
func Open(name string) (*TPM, error) { return OpenContext(context.Background(), name, nil) }

// OpenContext is Open with options; ctx counts for opening alone. opts may be nil.
func OpenContext(ctx context.Context, name string, opts *OpenOptions) (*TPM, error) {
	if opts == nil {
		opts = new(OpenOptions)
	}
	wait := cmp.Or(max(opts.Wait, 0), defaultWait)
	dev, err := transport.OpenContext(ctx, name, wait)
	if err != nil {
		return nil, err
	}
	return open(ctx, dev, wait)
}

// OpenTransport uses a TPM that is open already, by any of go-tpm's
// transports. The TPM owns t from then on: Close closes it.
func OpenTransport(t tpmtransport.TPMCloser) (*TPM, error) {
	if t == nil {
		return nil, errors.New("open TPM: the transport is nil")
	}
	return open(context.Background(), transport.Wrap(t, "transport"), defaultWait)
}

// open finds out which TPM dev is, and sets a new software TPM up. It closes
// dev where it fails.
func open(ctx context.Context, dev *transport.Device, wait time.Duration) (*TPM, error) {
	t := &TPM{dev: dev, wait: wait, keys: make(map[*held]struct{})}
	t.slots.tpm = t
	rand.Read(t.salt[:])
	err := t.find(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dev.Name(), err), dev.Close())
	}
	dev.OnAsked(t.makeRoom)
	return t, nil
}

// maxPatience is how long a TPM may say that it is busy with itself.
const maxPatience = 10 * time.Second

// find finds out which generation the TPM is.
func (t *TPM) find(ctx context.Context) error {
	release, err := t.dev.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if t.chip, err = newChip(t.dev, min(t.wait, maxPatience)); err != nil {
		return err
	}
	t.epoch, err = t.dev.Connected()
	return err
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

// Close frees what was loaded into the TPM and closes it, after the operation that
// is under way; those that wait are ErrClosed. Its keys cannot be used afterwards.
func (t *TPM) Close() error {
	t.dev.Hurry()
	t.queue.close()
	t.closing.Lock()
	defer t.closing.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if t.idle != nil {
		t.idle.Stop()
	}
	var err error
	if len(t.keys) > 0 || t.chip.holds() {
		err = t.acquired(context.Background(), t.clear)
	}
	if errors.Is(err, transport.ErrAway) {
		err = nil // what was loaded has gone with the TPM
	}
	for k := range t.keys { // those that no turn could be had for
		k.forget()
	}
	return errors.Join(err, t.dev.Close())
}

// clear closes every key that is still open, and the sessions.
func (t *TPM) clear() error {
	var errs []error
	for k := range t.keys {
		errs = append(errs, k.shut())
	}
	t.chip.endSessions()
	if err := t.sync(); t.chip.holds() && err == nil { // a connection was lost
		t.chip.endSessions()
	}
	errs = append(errs, t.chip.reclaim(t.claimed))
	return errors.Join(errs...)
}
