package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// settingsSuffix and the name of a directory make the name of its settings file.
const settingsSuffix = ".ecryptmount"

const (
	settingsVersion = 1
	maxSettingsFile = 64 << 10
)

// A settingsFile is the file beside a directory. It has the settings of the first mount and the
// wrapped passphrase for file names.
type settingsFile struct {
	Version int    `json:"version"`
	Key     string `json:"key"` // fingerprint
	Cipher  string `json:"cipher"`
	// KeyBytes is the size of the keys of new files.
	KeyBytes       int  `json:"key_bytes"`
	FilenameCrypto bool `json:"filename_crypto"`
	// FilenamePassphrase is wrapped with the TPM's key.
	FilenamePassphrase []byte `json:"filename_passphrase,omitempty"`
	Passthrough        bool   `json:"passthrough,omitempty"`
}

// parseSettingsFile reads and checks a settings file. Its errors quote nothing from data, which may
// be another file.
func parseSettingsFile(data []byte) (*settingsFile, error) {
	if len(data) > maxSettingsFile {
		return nil, errors.New("not a settings file of ecryptmount: it is too large")
	}
	r := new(settingsFile)
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(r); err != nil {
		return nil, errors.New("not a settings file of ecryptmount, or a damaged one")
	}
	switch {
	case in.More():
		return nil, errors.New("there is more data after the settings")
	case r.Version > settingsVersion:
		return nil, fmt.Errorf("settings of version %d, but this ecryptmount reads version %d: use a newer ecryptmount", r.Version, settingsVersion)
	case r.Version < 1:
		return nil, errors.New("the settings have no version")
	case len(r.Key) != 64:
		return nil, errors.New("the settings have no fingerprint of a key")
	case r.Cipher != cipher:
		return nil, errors.New("the settings name a cipher other than " + cipher + ", which is not supported")
	case r.KeyBytes != 16 && r.KeyBytes != 24 && r.KeyBytes != 32:
		return nil, fmt.Errorf("the settings name keys of %d bytes, but AES has keys of 16, 24 or 32", r.KeyBytes)
	case r.FilenameCrypto != (len(r.FilenamePassphrase) > 0) || len(r.FilenamePassphrase) > 512:
		return nil, errors.New("the passphrase for file names is missing, too long or unexpected")
	}
	return r, nil
}
