package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"maclef/internal/transport"
	"maclef/tpmkey"
)

// A TPMFlag says which TPM, by -tpm, and how long others may keep it, by -wait.
type TPMFlag struct {
	Name string
	Wait time.Duration // never 0
	// NoCache is tpmkey.OpenOptions.NoCache.
	NoCache bool
}

// TPM defines -tpm and -wait, for [Env.OpenTPM].
func (fs *FlagSet) TPM() *TPMFlag {
	f := &TPMFlag{Wait: defaultWait}
	fs.Var((*stringValue)(&f.Name), "tpm",
		"`NAME` of the TPM: a device, unix:PATH, tcp:HOST:PORT, emulator[:DIR] (TPM 1.2) or emulator2[:DIR] (TPM 2.0) (default $TPMKEY_TPM, else the first there is)")
	fs.Var((*boolValue)(&f.NoCache), "no-cache", "keep no saved contexts of keys on disk, and use none")
	fs.Var((*waitValue)(&f.Wait), "wait", "`TIME` to wait for other programs that use the TPM, such as 5m; 0 for hardly at all (default 30s)")
	return f
}

// Given is what the TPM is called where it has not been opened, empty where only that
// tells.
func (f *TPMFlag) Given() string { return cmp.Or(f.Name, os.Getenv(transport.EnvName)) }

// SRKPass defines -srk-pass, the secret that opens the storage root key, or the parent.
func (fs *FlagSet) SRKPass() *SecretFlag {
	return fs.Secret("srk-pass", SecretOptions{Default: "wellknown", Label: "Secret of the storage root key (SRK)"},
		"`SECRET` of the storage root key; TPM 2.0: of the key's parent, or of the hierarchy that makes it (the owner's)")
}

// KeyPass defines -key-pass, the secret of a key that exists. By default it is
// asked for, if the key needs one.
func (fs *FlagSet) KeyPass() *SecretFlag {
	return fs.Secret("key-pass", SecretOptions{Default: "prompt", Label: "Secret of the key"},
		"`SECRET` of the key (default prompt, if the key needs one)")
}

// OpenTPM opens the TPM that -tpm names, and says so, once, where it is a software
// TPM that protects nothing. On a terminal it says what it waits for. Whoever loads something sees to it that a signal frees
// that: see [OnSignal].
func (e *Env) OpenTPM(flag *TPMFlag) (*tpmkey.TPM, error) {
	done := e.AwaitTPM(flag.Given())
	tpm, err := tpmkey.OpenWithOptions(context.Background(), flag.Name, &tpmkey.OpenOptions{Wait: flag.Wait, NoCache: flag.NoCache, Note: func(text string) { e.Notef("%s", text) }})
	done()
	if err != nil {
		return nil, err
	}
	if tpm.Emulator() {
		e.warned.Do(func() {
			_, dir, _ := strings.Cut(tpm.Name(), ":")
			e.Notef("software TPM in %s: for trying out only, it protects nothing", dir)
		})
	}
	return tpm, nil
}

// WithTPM opens the TPM that -tpm names, uses it, and closes it: what a command
// writes afterwards can take long, and a turn is not to last as long. Signals
// and panics close it, too.
func (e *Env) WithTPM(flag *TPMFlag, use func(*tpmkey.TPM) error) error {
	return e.WithGuardedTPM(flag, func(tpm *tpmkey.TPM) error {
		defer OnSignal(func() {
			e.hide()
			tpm.Close()
		})()
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
	defer e.awaitTPM(tpm.Name())() // after tpm.Close: a terminal can be stopped
	// What use made is good, whatever becomes of a key's place in the TPM.
	defer tpm.Close()
	return use(tpm)
}

// defaultWait is -wait: longer than all but the making of keys takes on a chip.
const defaultWait = 30 * time.Second

// noWait is the shortest -wait, and what 0 stands for: as long as a TPM that nobody else uses needs
// to take a program in.
const noWait = 100 * time.Millisecond

// maxWait keeps sums of times in range.
const maxWait = 1000 * time.Hour

// waitValue is the value of -wait.
type waitValue time.Duration

func (v *waitValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxWait {
		return errors.New("it takes a time such as 500ms, 30s or 5m, or 0")
	}
	*v = waitValue(max(d, noWait))
	return nil
}

func (v *waitValue) String() string { return time.Duration(*v).String() }

// A PolicyFlag is what must hold for a new key to be used, by -policy.
type PolicyFlag struct {
	Policy *tpmkey.Policy // nil if not given
	text   string
}

// Policy defines -policy.
func (fs *FlagSet) Policy() *PolicyFlag {
	f := new(PolicyFlag)
	fs.Var(f, "policy", "TPM 2.0: what must hold when it is used, a `POLICY`: pcr:sha256:7,11 is that these PCRs have the values they have now")
	return f
}

// Set reads a policy.
func (f *PolicyFlag) Set(text string) error {
	policy, err := tpmkey.ParsePolicy(text)
	if err != nil {
		return err
	}
	f.Policy, f.text = policy, text
	return nil
}

func (f *PolicyFlag) String() string { return f.text }
