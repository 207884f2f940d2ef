package tpmkey

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"maclef/blob"
	"maclef/internal/chip20"
	"maclef/internal/keyfile"
)

// LoadOptions are the secrets for Load. The zero value, or a nil pointer, is
// right for a TPM whose SRK has the well-known secret and a key without one.
type LoadOptions struct {
	// Name is what errors call the key, for LoadFile by default its path.
	Name string
	// ParentAuth is the secret of the storage root key (SRK), for a TPM 2.0 that of the key's parent, or
	// of the hierarchy that makes it; the zero value stands for the well-known secret. It
	// is needed again where the TPM has lost the key.
	ParentAuth Secret
	// Auth is the key's own secret. A key whose file says that it has none gets one all
	// the same that is given here, other than by AskSecret. It is used, and an AskSecret is asked, by the
	// first operation of a key that needs a secret, and whenever the TPM has lost
	// its session, unless it is kept: see Secret.Keep.
	Auth Secret
	// Parent, where it is not 0, is the handle of the key's parent, or of the hierarchy
	// whose primary key that is, whatever the file says; for TPM 2.0.
	Parent uint32
}

// LoadFile loads the key of a key file, in any of the containers that blob.Parse
// knows; of tpm2-tools' pair NAME.pub and NAME.priv either one may be named. A path like
// "handle:0x81000001" stands for a key that a TPM 2.0 keeps itself. opts may be nil. Errors: those of blob.Parse, of ReadHandle and of Load.
func (t *TPM) LoadFile(ctx context.Context, path string, opts *LoadOptions) (*Key, error) {
	file, err := t.readKey(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	var named LoadOptions
	if opts != nil {
		named = *opts
	}
	named.Name = cmp.Or(named.Name, path)
	return t.Load(ctx, file, &named)
}

func (t *TPM) readKey(ctx context.Context, path string) (blob.Key, error) {
	if handle, ok, err := ParseHandle(path); ok {
		if err != nil {
			return nil, err
		}
		return t.ReadHandle(ctx, handle)
	}
	return keyfile.Read(path, path, keyfile.ReadFile)
}

// Load loads a key under its parent, for a TPM 1.2 the SRK. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrWrongTPM,
// ErrNotOwned, ErrDisabled, ErrNotSupported for a key that can neither sign nor
// decrypt, ErrSecretNeeded, ErrWrongGeneration, ErrNoParent,
// ErrPolicy, blob.ErrDamaged, ErrBusy, ErrGone, ErrClosed.
func (t *TPM) Load(ctx context.Context, file blob.Key, opts *LoadOptions) (*Key, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	k, err := t.load(ctx, file, opts)
	return k, doingError("load "+cmp.Or(opts.Name, "key"), err)
}

func (t *TPM) load(ctx context.Context, file blob.Key, opts *LoadOptions) (*Key, error) {
	if file == nil {
		return nil, errNoKey
	}
	k, err := t.newKey(file, opts)
	if err != nil {
		return nil, err
	}
	if k.k.Ops.Unseal != nil {
		return nil, fmt.Errorf("%w: this is sealed data, not a key", ErrNotSupported)
	}
	if file.PublicKey() == nil {
		return nil, errNoKey
	}
	if _, err := k.WithContext(ctx).do(nil); err != nil {
		k.k.Forget()
		return nil, err
	}
	return k, nil
}

// newKey is what is to be loaded; it sends nothing.
func (t *TPM) newKey(file blob.Key, opts *LoadOptions) (*Key, error) {
	if err := chip20.CheckParent(opts.Parent); err != nil {
		return nil, err
	}
	if tss2, ok := file.(*blob.TSS2); ok {
		file = withOptions(*tss2, opts)
	}
	ops, err := t.chip().Use(file)
	if err != nil {
		return nil, err
	}
	k, err := t.m.NewKey(file, ops, opts.ParentAuth.s, opts.Auth.s)
	if err != nil {
		return nil, err
	}
	return &Key{t, k, context.Background(), nil}, nil
}

// withOptions is a key with what its file does not say right.
func withOptions(file blob.TSS2, opts *LoadOptions) *blob.TSS2 {
	file.Parent = cmp.Or(opts.Parent, file.Parent)
	if opts.Auth.s.Known() {
		file.EmptyAuth = false // tpm2_encodeobject has it the wrong way round
	}
	return &file
}

// handlePrefix begins what stands in place of a path for a key without a file.
const handlePrefix = "handle:"

// ParseHandle reads a name like "handle:0x81000001", of a key that a TPM 2.0 keeps
// itself. ok is false for the name of a file.
func ParseHandle(name string) (handle uint32, ok bool, err error) {
	text, ok := strings.CutPrefix(name, handlePrefix)
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || n>>24 != 0x81 {
		return 0, true, fmt.Errorf("%s: a handle is a number from 0x81000000 to 0x81ffffff", name)
	}
	return uint32(n), true, nil
}

// ReadHandle reads what a key of a TPM 2.0 is that the TPM itself keeps, by its
// persistent handle (0x81…), for Load. Errors: ErrNotSupported for a TPM 1.2;
// ErrNoKey. TPM 2.0 Library Part 3, section 12.4
// (TPM2_ReadPublic).
func (t *TPM) ReadHandle(ctx context.Context, handle uint32) (k blob.Key, err error) {
	err = t.run(ctx, func() (err error) { // even to read it takes a place
		k, err = t.chip().ReadHandle(handle)
		return err
	})
	return k, doingError(fmt.Sprintf("read key %#x", handle), err)
}
