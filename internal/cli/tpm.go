package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"maclef/blob"
	"maclef/tpmkey"
)

// TPM defines -tpm, for [Env.OpenTPM].
func (fs *FlagSet) TPM() *string {
	return fs.String("tpm", "", "`NAME` of the TPM: a device, unix:PATH, tcp:HOST:PORT or emulator[:DIR] (default $TPMKEY_TPM, else the first there is)")
}

// SRKPass defines -srk-pass, the secret that opens the storage root key.
func (fs *FlagSet) SRKPass() *SecretFlag {
	return fs.Secret("srk-pass", SecretOptions{Default: "wellknown", Label: "Secret of the storage root key (SRK)"},
		"`SECRET` of the storage root key")
}

// KeyPass defines -key-pass, the secret of a key that exists. By default it is
// asked for, if the key needs one.
func (fs *FlagSet) KeyPass() *SecretFlag {
	return fs.Secret("key-pass", SecretOptions{Default: "prompt", Label: "Secret of the key"},
		"`SECRET` of the key (default prompt, if the key needs one)")
}

// ReadKey reads a key file, "-" being standard input, without a TPM.
func (e *Env) ReadKey(path string) (*blob.Key, error) {
	data, err := e.ReadInput(path, KeyFileLimit, "key file")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, WithHint(err, "name the key file, or make one: keygen "+path)
	}
	if err != nil {
		return nil, err
	}
	file, err := blob.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", inputName(path), err)
	}
	return file, nil
}

// LoadKey loads a key that ReadKey read from path, with the secrets of two flags.
func LoadKey(tpm *tpmkey.TPM, path string, file *blob.Key, srk, key *SecretFlag) (*tpmkey.Key, error) {
	return tpm.Load(file, &tpmkey.LoadOptions{Name: inputName(path), SRK: srk.Secret(), Key: key.Secret()})
}

// OpenTPM opens the TPM that -tpm names, and says so, once, where it is a software
// TPM that protects nothing.
func (e *Env) OpenTPM(name string) (*tpmkey.TPM, error) {
	tpm, err := tpmkey.Open(name)
	if err != nil {
		return nil, err
	}
	if tpm.Emulator() {
		e.warned.Do(func() {
			e.Notef("software TPM in %s: for trying out only, it protects nothing", strings.TrimPrefix(tpm.Name(), "emulator:"))
		})
	}
	return tpm, nil
}

// WithTPM opens the TPM that -tpm names, uses it, and closes it: what a command
// writes afterwards can take long, and others want the TPM.
func (e *Env) WithTPM(name string, use func(*tpmkey.TPM) error) error {
	tpm, err := e.OpenTPM(name)
	if err != nil {
		return err
	}
	// What use made is good, whatever becomes of a key's place in the TPM.
	defer tpm.Close()
	return use(tpm)
}
