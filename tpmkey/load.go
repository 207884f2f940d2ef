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
	"maclef/internal/policy"
)

// LoadOptions are the options of Load. The zero value, or a nil pointer, is for a key without a
// secret, under an SRK with the well-known secret.
type LoadOptions struct {
	// Name is the key's name in errors; the default of LoadFile is the path.
	Name string
	// ParentAuth is the secret of the storage root key (SRK); for a TPM 2.0, of the key's parent,
	// or of the hierarchy in which the parent is created. The zero value stands for the
	// well-known secret. It is needed again if the TPM has lost the key.
	ParentAuth Secret
	// Auth is the key's own secret. If it is given, other than by AskSecret, it is used even if
	// the file says that the key has none. It is used, and an AskSecret asks for it, when an
	// operation first needs it, and when the TPM has lost the key's session, unless it is kept:
	// see Secret.Keep.
	Auth Secret
	// Parent replaces the parent in the file, if it is not 0: the handle of a key, or a
	// hierarchy, which stands for its primary key. It is for TPM 2.0 only.
	Parent uint32
	// MovableParent allows the use of ParentAuth with a parent of a TPM 2.0 that has no fixedTPM.
	// Somebody may have a copy of such a parent, and so all keys under it.
	MovableParent bool
	// Policy replaces the policy in the file, if it is not nil, for TPM 2.0 only. It is for keys
	// that other programs made with a policy, of which only the digest is stored. The key is then
	// used by this policy even if its secret alone would do. Load checks it, with the present PCRs,
	// before the key is loaded: another digest than the key's gives ErrPolicy.
	Policy *Policy
}

// LoadFile loads the key of a key file, in any container that blob.Parse knows. Of tpm2-tools'
// two files NAME.pub and NAME.priv (or NAME.prv), path may be either one. A path like "0x81000001"
// or "handle:0x81000001" stands for a persistent key of a TPM 2.0. opts may be nil. Errors: those of
// blob.Parse, of ReadHandle and of Load.
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
// decrypt, ErrSecretNeeded, ErrWrongGeneration, ErrNoParent, ErrMovableParent,
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
	k, err := t.newKey(ctx, file, opts)
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

// newKey returns a key that is not loaded yet. It sends nothing but commands that read the PCRs of
// a given policy.
func (t *TPM) newKey(ctx context.Context, file blob.Key, opts *LoadOptions) (*Key, error) {
	if err := chip20.CheckParent(opts.Parent); err != nil {
		return nil, err
	}
	file, err := t.withOptions(ctx, file, opts)
	if err != nil {
		return nil, err
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

// withOptions returns the key with what opts replace in its file.
func (t *TPM) withOptions(ctx context.Context, file blob.Key, opts *LoadOptions) (blob.Key, error) {
	tss2, is20 := file.(*blob.TSS2)
	if !is20 && opts.Policy != nil {
		return nil, fmt.Errorf("%w: a policy was given, and keys of a TPM 1.2 have none", ErrNotSupported)
	}
	if sealed, ok := file.(*blob.TPMSealed); ok {
		with := *sealed
		with.Secret = with.Secret || opts.Auth.s.Known()
		return &with, nil
	}
	c, ok := t.chip().(*chip20.Chip)
	if !is20 || !ok {
		return file, nil
	}
	with := *policy.Recognise(tss2)
	with.Parent, with.MovableParent = cmp.Or(opts.Parent, with.Parent), opts.MovableParent
	if opts.Auth.s.Known20() {
		with.EmptyAuth = false // tpm2_encodeobject sets EmptyAuth wrongly
	}
	if opts.Policy == nil {
		return &with, nil
	}
	var by *blob.TSS2
	err := t.run(ctx, func() (err error) {
		by, err = c.WithPolicy(&with, opts.Policy.steps)
		return err
	})
	if err != nil {
		return nil, err
	}
	return by, nil
}

// handlePrefix is the prefix of a persistent handle in place of a path.
const handlePrefix = "handle:"

// ParseHandle parses a name like "0x81000001" or "handle:0x81000001", of a persistent key of a TPM
// 2.0. ok is false for the name of a file.
func ParseHandle(name string) (handle uint32, ok bool, err error) {
	text, ok := strings.CutPrefix(name, handlePrefix)
	n, err := strconv.ParseUint(text, 0, 32)
	switch {
	case !ok && (err != nil || len(text) != len("0x81000001") || !strings.HasPrefix(text, "0x")):
		return 0, false, nil
	case err != nil || n>>24 != 0x81:
		return 0, true, fmt.Errorf("%s: a handle is a number from 0x81000000 to 0x81ffffff", name)
	}
	return uint32(n), true, nil
}

// ReadHandle reads the public area of a persistent key (0x81…) of a TPM 2.0, for Load. Errors:
// ErrNotSupported for a TPM 1.2; ErrNoKey. TPM 2.0 Library Part 3, section 12.4
// (TPM2_ReadPublic).
func (t *TPM) ReadHandle(ctx context.Context, handle uint32) (k blob.Key, err error) {
	err = t.run(ctx, func() (err error) { // even to read it takes a place
		k, err = t.chip().ReadHandle(handle)
		return err
	})
	return k, doingError(fmt.Sprintf("read key %#x", handle), err)
}
