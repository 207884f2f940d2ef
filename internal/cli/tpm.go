package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"maclef/blob"
	"maclef/tpmkey"
)

// A TPMFlag says which TPM, by -tpm, and how long others may keep it, by -wait.
type TPMFlag struct {
	Name string
	Wait time.Duration // never 0
}

// TPM defines -tpm and -wait, for [Env.OpenTPM].
func (fs *FlagSet) TPM() *TPMFlag {
	f := &TPMFlag{Wait: defaultWait}
	fs.Var((*stringValue)(&f.Name), "tpm",
		"`NAME` of the TPM: a device, unix:PATH, tcp:HOST:PORT or emulator[:DIR] (default $TPMKEY_TPM, else the first there is)")
	fs.Var((*waitValue)(&f.Wait), "wait", "`TIME` to wait for other programs that use the TPM, such as 5m; 0 for hardly at all (default 30s)")
	return f
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
// TPM that protects nothing. Whoever loads something sees to it that a signal frees
// that: see [OnSignal].
func (e *Env) OpenTPM(flag *TPMFlag) (*tpmkey.TPM, error) {
	tpm, err := tpmkey.OpenContext(context.Background(), flag.Name, &tpmkey.OpenOptions{Wait: flag.Wait})
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
// writes afterwards can take long, and others want what it has loaded out. Signals
// and panics close it, too.
func (e *Env) WithTPM(flag *TPMFlag, use func(*tpmkey.TPM) error) error {
	return e.WithGuardedTPM(flag, func(tpm *tpmkey.TPM) error {
		defer OnSignal(func() { tpm.Close() })()
		defer tpm.Close() // while a signal waits for it
		return use(tpm)
	})
}

// WithGuardedTPM is WithTPM for a use that knows itself what to do about signals.
func (e *Env) WithGuardedTPM(flag *TPMFlag, use func(*tpmkey.TPM) error) error {
	tpm, err := e.OpenTPM(flag)
	if err != nil {
		return err
	}
	// What use made is good, whatever becomes of a key's place in the TPM.
	defer tpm.Close()
	return use(tpm)
}
