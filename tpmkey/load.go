package tpmkey

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"maclef/blob"
)

// LoadOptions are the secrets for Load. The zero value, or a nil pointer, is
// right for a TPM whose SRK has the well-known secret and a key without one.
type LoadOptions struct {
	// Name is what errors call the key, for LoadFile by default its path.
	Name string
	// SRK is the secret of the storage root key; the zero value stands for the
	// well-known secret. It is needed again where the TPM has lost the key.
	SRK Secret
	// Key is the key's own secret. It is used, and an AskSecret is asked, by the
	// first operation of a key that needs a secret, and whenever the TPM has lost
	// its session, unless it is kept: see Secret.Keep.
	Key Secret
}

// maxKeyFile is more than any key file has, in bytes.
const maxKeyFile = 1 << 20

// LoadFile loads the key of a key file, in any of the containers that blob.Parse
// knows. opts may be nil. Errors: those of blob.Parse and of Load.
func (t *TPM) LoadFile(path string, opts *LoadOptions) (*Key, error) {
	file, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	var named LoadOptions
	if opts != nil {
		named = *opts
	}
	named.Name = cmp.Or(named.Name, path)
	return t.Load(file, &named)
}

func readKeyFile(path string) (*blob.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s: over %d bytes: too large for a key file", path, maxKeyFile)
	}
	k, err := blob.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Load loads a key under the SRK. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrWrongTPM,
// ErrNotOwned, ErrDisabled, ErrNotSupported for a key that can neither sign nor
// decrypt, ErrSecretNeeded, ErrBusy, ErrGone, ErrClosed.
func (t *TPM) Load(file *blob.Key, opts *LoadOptions) (*Key, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	k, err := t.load(file, opts)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", cmp.Or(opts.Name, "key"), err)
	}
	return k, nil
}

func (t *TPM) load(file *blob.Key, opts *LoadOptions) (*Key, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if err := t.chip.checkUsable(file); err != nil {
		return nil, err
	}
	able, err := abilitiesOf(file)
	if err != nil {
		return nil, err
	}
	h := &held{
		tpm: t, file: file, public: file.RSAPublicKey(), abilities: able,
		secret: newVault(opts.Key, "the key's own secret"),
		srk:    newVault(opts.SRK.orWellKnown(), "the SRK's secret"),
	}
	k := &Key{held: h, ctx: context.Background()}
	if _, err := k.operate(nil); err != nil {
		return nil, err
	}
	return k, nil
}

// srkSecret resolves the SRK's secret. Nobody is asked for the secret of a TPM
// that has no SRK.
func (t *TPM) srkSecret(s Secret) (authData, error) {
	if s.ask != nil {
		if err := t.turn(func() error { return t.chip.ready() }); err != nil {
			return nil, err
		}
	}
	auth, err := s.orWellKnown().resolve("the SRK's secret")
	return &auth, err
}
