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

// A TPM is an open TPM. Close it to flush what it has loaded.
type TPM struct {
	dev *transport.Device
	m   *keymgr.Manager
}

// OpenOptions are the options of OpenWithOptions. The zero value, or a nil pointer, is what Open
// uses.
type OpenOptions struct {
	// Wait limits how long an operation waits for other programs that use the TPM, including at
	// most 10 seconds for a TPM that restarts or tests itself; 0 stands for a minute.
	Wait time.Duration
	// NoCache disables the cache of saved contexts on disk, in $XDG_RUNTIME_DIR/maclef or, for
	// root, /run/maclef, which makes the first use of a key as fast as the second. The contexts
	// are valid until the TPM's next reset. Whoever can read them and access the TPM can use the
	// keys that have no secret, as with their key files. The emulator has no cache, because its
	// TPM ends with the last program.
	NoCache bool
	// Note is called with a sentence, without a full stop, before something that may take long.
	// It must not use the TPM, and may be nil.
	Note func(text string)
}

// defaultWait is the default of OpenOptions.Wait.
const defaultWait = time.Minute

// Open opens a TPM by its name:
//
//	/dev/tpmrm0      a device (any path); this one is the kernel's resource manager for
//	                 TPM 2.0, which serves several programs at once
//	unix:PATH        the data channel of a software TPM (swtpm), a Unix socket
//	tcp:HOST:PORT    the same over TCP
//	emulator[:DIR]   a software TPM 1.2 that this package starts, with a state directory, by
//	                 default maclef/tpm12 in $XDG_STATE_HOME or ~/.local/state; it is created
//	                 on first use, and protects nothing
//	emulator2[:DIR]  the same with a TPM 2.0, by default in maclef/tpm20
//	(empty)          $TPMKEY_TPM, or else this machine's first TPM device, /dev/tpmrm0
//	                 before /dev/tpm0
//
// Other programs can use the TPM at the same time if they take turns, too. ctx limits the opening
// only.
//
// Errors: ErrNoTPM, ErrPermission, ErrBusy; another one for an invalid name.
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
	if !opts.NoCache && !dev.Emulator() { // the emulator ends with its last program
		cache, _ = openCache(dev.Name()) // nil if the folder cannot be used
	}
	return open(ctx, dev, wait, cache, opts.Note)
}

// OpenTransport uses a TPM that is open already, with any of go-tpm's transports. The TPM owns t:
// Close closes it. Keys stay loaded until Close. Other users of t must not flush them.
func OpenTransport(ctx context.Context, t tpmtransport.TPMCloser) (*TPM, error) {
	if t == nil {
		return nil, errors.New("open TPM: the transport is nil")
	}
	return open(ctx, transport.Wrap(t, "transport"), defaultWait, nil, nil)
}

// openCache opens the cache for a TPM. Tests replace it.
var openCache = contextcache.Open

// open finds out the generation of dev, and prepares a new software TPM. If it fails, it closes
// dev.
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

// openChip finds out the generation of a TPM.
func openChip(dev *transport.Device, patience time.Duration, cache *contextcache.Cache, note func(string)) (chip.Chip, error) {
	c, err := chip12.Open(dev, patience)
	if errors.Is(err, tpm12.ErrTPM20) {
		return chip20.Open(dev, patience, cache, note)
	}
	return c, err
}

// maxPatience limits how long commands are repeated while the TPM is busy.
const maxPatience = 10 * time.Second

// Name returns the name that the TPM was opened with, including defaults.
func (t *TPM) Name() string { return t.dev.Name() }

// Emulator reports whether this is the software TPM of Open("emulator") or Open("emulator2"),
// which protects nothing.
func (t *TPM) Emulator() bool { return t.dev.Emulator() }

// String returns the TPM's name, for logs.
func (t *TPM) String() string { return "TPM " + t.Name() }

// Format hides everything but String's text from package fmt.
func (t *TPM) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// Close flushes what was loaded into the TPM and closes it, after the operation under way.
// Waiting operations and later uses of its keys give ErrClosed.
func (t *TPM) Close() error { return t.m.Close() }

// Random returns the TPM's random number generator, whose reads end with ctx. A Read fills the
// whole buffer or fails. It is
// for keys and seeds, not for bulk data: a command returns a few hundred bytes on a TPM 1.2, 64
// at most on a TPM 2.0. TPM Main Part 3, section 13.6 (TPM_GetRandom); TPM 2.0 Library Part 3,
// section 16.1 (TPM2_GetRandom).
func (t *TPM) Random(ctx context.Context) io.Reader { return random{t, ctx} }

type random struct {
	tpm *TPM
	ctx context.Context
}

func (r random) Read(p []byte) (n int, err error) {
	for n < len(p) {
		var b []byte
		err := r.tpm.run(r.ctx, func() (err error) {
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

// maxRandom fits in the reply buffer of every TPM.
const maxRandom = 256

func (t *TPM) chip() chip.Chip { return t.m.Chip() }

// run runs f, which needs no key, in a turn.
func (t *TPM) run(ctx context.Context, f func() error) error { return t.m.Run(ctx, f) }
