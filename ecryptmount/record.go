package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// parseRecord reads a record and checks that it makes sense. Its errors have
// nothing of the contents, which may be those of another file.
func parseRecord(data []byte) (*record, error) {
	if len(data) > recordLimit {
		return nil, errors.New("this is no record of ecryptmount: it is too large")
	}
	r := new(record)
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(r); err != nil {
		return nil, errors.New("this is no record of ecryptmount, or a damaged one")
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
		return nil, errors.New("a record with another cipher than " + cipher + ", which is not supported")
	case r.KeyBytes != 16 && r.KeyBytes != 24 && r.KeyBytes != 32:
		return nil, fmt.Errorf("a record with keys of %d bytes, which AES has not", r.KeyBytes)
	case r.FilenameCrypto != (len(r.FilenamePassphrase) > 0) || len(r.FilenamePassphrase) > 512:
		return nil, errors.New("a record whose passphrase for file names is missing, or does not belong there")
	}
	return r, nil
}
