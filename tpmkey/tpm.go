package tpmkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	tpmtransport "github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/chip20"
	"maclef/internal/contextcache"
	"maclef/internal/keymgr"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// A TPM is an open TPM. Close it to free what was loaded there.
type TPM struct {
	dev *transport.Device
	m   *keymgr.Manager
}

// OpenOptions say how to share a TPM. The zero value, or a nil pointer, is what
// Open uses.
type OpenOptions struct {
	// Wait is how long an operation waits for other programs that use the TPM, and
	// at most 10 seconds of it for a TPM that restarts or tests itself; 0 stands
	// for a minute.
	Wait time.Duration
	// NoCache has no saved contexts of keys read from disk, or written there. They are kept
	// until the TPM's next reset, in $XDG_RUNTIME_DIR/maclef or, for root, /run/maclef, so
	// that a key comes as quickly as the second time. Who can read them and reach the TPM
	// can use keys without a secret, as with their files. The emulator has none: its TPM
	// ends with its last program.
	NoCache bool
	// Note is told, in a sentence without an end, before something that may take long; it
	// must not use the TPM. It may be nil.
	Note func(text string)
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
// ctx counts for opening only.
//
// Errors: ErrNoTPM, ErrPermission, ErrBusy; one of no kind for a name
// of another form.
func Open(ctx context.Context, name string) (*TPM, error) { return OpenWithOptions(ctx, name, nil) }

// OpenWithOptions is Open with options, which may be nil.
func OpenWithOptions(ctx context.Context, name string, opts *OpenOptions) (*TPM, error) {
	if opts == nil {
		opts = new(OpenOptions)
	}
	wait := cmp.Or(max(opts.Wait, 0), defaultWait)
	dev, err := transport.Open(name, wait)
	if err != nil {
		return nil, err
	}
	dev.SetDeadline(time.Now().Add(wait))
	defer dev.SetDeadline(time.Time{})
	var cache *contextcache.Cache
	if !opts.NoCache && !dev.Emulator() { // whose TPM ends with its last program
		cache, _ = openCache(dev.Name()) // nil where the folder cannot be used
	}
	return open(ctx, dev, wait, cache, opts.Note)
}

// OpenTransport uses a TPM that is open already, by any of go-tpm's
// transports. The TPM owns t from then on: Close closes it. It stays open, and what is
// loaded stays loaded; others that use it at the same time must leave that alone.
func OpenTransport(ctx context.Context, t tpmtransport.TPMCloser) (*TPM, error) {
	if t == nil {
		return nil, errors.New("open TPM: the transport is nil")
	}
	return open(ctx, transport.Wrap(t, "transport"), defaultWait, nil, nil)
}

// openCache opens the cache for a TPM. Tests replace it.
var openCache = contextcache.Open

// open finds out which TPM dev is, and sets a new software TPM up. It closes
// dev where it fails.
func open(ctx context.Context, dev *transport.Device, wait time.Duration, cache *contextcache.Cache, note func(string)) (*TPM, error) {
	release, err := dev.Acquire(ctx, time.Time{})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	defer release()
	c, err := openChip(dev, min(wait, maxPatience), cache, note)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dev.Name(), err), dev.Close())
	}
	return &TPM{dev, keymgr.New(dev, c, cache)}, nil
}

// openChip finds out which generation a TPM is.
func openChip(dev *transport.Device, patience time.Duration, cache *contextcache.Cache, note func(string)) (chip.Chip, error) {
	c, err := chip12.Open(dev, patience)
	if errors.Is(err, tpm12.ErrTPM20) {
		return chip20.Open(dev, patience, cache, note)
	}
	return c, err
}

// maxPatience is how long a TPM may say that it is busy with itself.
const maxPatience = 10 * time.Second

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
func (t *TPM) Close() error { return t.m.Close() }

// Random returns the TPM's random number generator. A Read fills the whole
// buffer or fails; a TPM 1.2 gives a few hundred bytes a command, so this is
// for keys and seeds, not for bulk. TPM Main Part 3, section 13.6
// (TPM_GetRandom); TPM 2.0 Library Part 3, section 16.1 (TPM2_GetRandom), 64 bytes at
// most.
func (t *TPM) Random() io.Reader { return random{t} }

type random struct{ tpm *TPM }

func (r random) Read(p []byte) (n int, err error) {
	for n < len(p) {
		var b []byte
		err := r.tpm.run(context.Background(), func() (err error) {
			b, err = r.tpm.chip().Random(min(len(p)-n, maxRandom))
			return err
		})
		if err != nil {
			return n, fmt.Errorf("read random numbers: %w", err)
		}
		n += copy(p[n:], b)
	}
	return n, nil
}

// maxRandom fits every TPM's reply buffer.
const maxRandom = 256

func (t *TPM) chip() chip.Chip { return t.m.Chip() }

// run does what needs no key.
func (t *TPM) run(ctx context.Context, f func() error) error { return t.m.Run(ctx, f) }
