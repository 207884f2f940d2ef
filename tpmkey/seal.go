package tpmkey

import (
	"cmp"
	"context"
	"fmt"

	"maclef/blob"
)

// SealOptions say how to seal data. The zero value, or a nil pointer, seals it to the
// TPM alone: whoever may use that gets it back.
type SealOptions struct {
	// SRK, Key, Policy and Parent are those of CreateOptions.
	SRK, Key Secret
	Policy   *Policy
	Parent   uint32
}

// Seal encrypts data, 1 to 128 bytes, so that only this TPM opens it again, and
// returns what to write in a file, as Create does. opts may be nil.
//
// Errors: those of Create; ErrNotSupported for a TPM 1.2. TPM 2.0 Library Part 3,
// section 12.1 (TPM2_Create).
func (t *TPM) Seal(data []byte, opts *SealOptions) (*blob.Key, error) {
	if opts == nil {
		opts = new(SealOptions)
	}
	err := t.chip.checkSeal(data, opts)
	var made *blob.Key
	if err == nil {
		made, err = t.make(opts.Parent, opts.SRK, opts.Key, func(srk, key authData) (*blob.Key, error) {
			return t.chip.seal(data, opts, srk, key)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return made, nil
}

// Unseal returns the data of a sealed file. opts may be nil; it has the secret and
// the parent's. The caller owns what is returned, and should clear it after use.
//
// Errors: those of Load and Key.Sign; ErrNotSupported for a key file. TPM 2.0 Library
// Part 3, section 12.7 (TPM2_Unseal).
func (t *TPM) Unseal(file *blob.Key, opts *LoadOptions) ([]byte, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	data, err := t.unseal(file, opts)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", cmp.Or(opts.Name, "data"), err)
	}
	return data, nil
}

func (t *TPM) unseal(file *blob.Key, opts *LoadOptions) ([]byte, error) {
	if file == nil {
		return nil, errNoKey
	}
	if t.chip.generation() == tpm12Family {
		return nil, errSeal12
	}
	if file.TSS2 == nil || !file.TSS2.Sealed() {
		return nil, fmt.Errorf("%w: this is a key, not sealed data; use it to sign or decrypt", ErrNotSupported)
	}
	h, err := t.newKeyState(file, nil, opts)
	if err != nil {
		return nil, err
	}
	k := &Key{keyState: h, ctx: context.Background()}
	data, err := t.do(k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.unseal(secret) }))
	if closed := k.Close(); err == nil && closed != nil {
		clear(data)
		return nil, closed
	}
	return data, err
}
