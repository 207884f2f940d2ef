package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"maclef/internal/cli"
)

// recordSuffix makes the name of a record of that of its directory.
const recordSuffix = ".ecryptmount"

const (
	recordVersion = 1
	recordLimit   = 64 << 10
)

// A record is what is kept beside a directory: its settings, so that later mounts
// need no options, and the wrapped passphrase for file names.
type record struct {
	Version int    `json:"version"`
	Key     string `json:"key"` // its fingerprint
	Cipher  string `json:"cipher"`
	// KeyBytes is the size of the keys of new files.
	KeyBytes       int  `json:"key_bytes"`
	FilenameCrypto bool `json:"filename_crypto"`
	// FilenamePassphrase is wrapped with the TPM's key.
	FilenamePassphrase []byte `json:"filename_passphrase,omitempty"`
	Passthrough        bool   `json:"passthrough,omitempty"`
}

// parseRecord reads a record and checks that it makes sense.
func parseRecord(data []byte) (*record, error) {
	r := new(record)
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(r); err != nil {
		return nil, fmt.Errorf("this is no record of ecryptmount, or a damaged one: %w", err)
	}
	switch {
	case in.More():
		return nil, errors.New("something follows the record")
	case r.Version > recordVersion:
		return nil, fmt.Errorf("a record of version %d; this ecryptmount knows %d: use a newer one", r.Version, recordVersion)
	case r.Version < 1:
		return nil, errors.New("a record without a version")
	case len(r.Key) != 64:
		return nil, errors.New("a record without the fingerprint of a key")
	case r.Cipher != cipher:
		return nil, fmt.Errorf("a record with the cipher %q, which is not supported", r.Cipher)
	case r.KeyBytes != 16 && r.KeyBytes != 24 && r.KeyBytes != 32:
		return nil, fmt.Errorf("a record with keys of %d bytes, which AES has not", r.KeyBytes)
	case r.FilenameCrypto != (len(r.FilenamePassphrase) > 0) || len(r.FilenamePassphrase) > 512:
		return nil, errors.New("a record whose passphrase for file names is missing, or does not belong there")
	}
	return r, nil
}

// readRecord returns nil where there is none yet.
func readRecord(env *cli.Env, path string) (*record, error) {
	data, err := env.ReadInput(path, recordLimit, "record of ecryptmount")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("read %s: %w", path, err), "put a copy of it back; without it, the names of the files are lost")
	}
	return r, nil
}

// write keeps a new record, whole or not at all.
func (r *record) write(env *cli.Env, path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	out, err := env.OpenOutput(path, cli.KeyMode, false)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := out.Write(append(data, '\n')); err != nil {
		return err
	}
	return out.Commit()
}

// remove takes back a record that nothing was mounted with.
func (r *record) remove(path string) { _ = os.Remove(path) }
