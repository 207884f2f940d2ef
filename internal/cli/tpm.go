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

// A TPMFlag holds the flags -tpm (which TPM), -wait (how long to wait for others) and
// -no-cache.
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
	fs.Var((*boolValue)(&f.NoCache), "no-cache", "do not save contexts of keys on disk, and use none")
	fs.Var((*waitValue)(&f.Wait), "wait", "`TIME` to wait for other programs that use the TPM, such as 5m; 0 for almost no time (default 30s)")
	return f
}

// Given returns the name of the TPM before it is opened; empty if it is known only
// afterwards.
func (f *TPMFlag) Given() string { return cmp.Or(f.Name, os.Getenv(transport.EnvName)) }

// SRKPass defines -srk-pass, the secret of the storage root key or of the parent.
func (fs *FlagSet) SRKPass() *SecretFlag {
	return fs.Secret("srk-pass", SecretOptions{Default: "wellknown", Label: "Secret of the storage root key (SRK)"},
		"`SECRET` of the storage root key; TPM 2.0: of the key's parent, or of the hierarchy that makes it (the owner's)")
}

// KeyPass defines -key-pass, the secret of an existing key. By default the command asks for
// it if the key needs one.
func (fs *FlagSet) KeyPass() *SecretFlag {
	return fs.Secret("key-pass", SecretOptions{Default: "prompt", Label: "Secret of the key"},
		"`SECRET` of the key (default prompt, if the key needs one)")
}

// OpenTPM opens the TPM that -tpm names. On a terminal it says what it waits for. It warns
// once if this is a software TPM, which protects nothing. A caller that loads something
// must free it when a signal arrives: see [OnSignal].
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

// WithTPM opens the TPM that -tpm names, calls use, and closes the TPM. What a command
// writes afterwards may take long, so the TPM is closed before. Signals and panics close
// it, too.
func (e *Env) WithTPM(flag *TPMFlag, use func(*tpmkey.TPM) error) error {
	return e.WithGuardedTPM(flag, func(tpm *tpmkey.TPM) error {
		defer OnSignal(func() {
			e.hideProgress()
			tpm.Close()
		})()
		defer tpm.Close() // before the signal handler stops
		return use(tpm)
	})
}

// WithGuardedTPM is WithTPM for a function that handles signals itself.
func (e *Env) WithGuardedTPM(flag *TPMFlag, use func(*tpmkey.TPM) error) error {
	tpm, err := e.OpenTPM(flag)
	if err != nil {
		return err
	}
	defer e.awaitTPM(tpm.Name())() // runs after tpm.Close, because writing to a stopped terminal blocks
	// Ignore the error: the result of use is valid even if a key stays loaded in the TPM.
	defer tpm.Close()
	return use(tpm)
}

// defaultWait is the default of -wait. Only key generation on a chip takes longer.
const defaultWait = 30 * time.Second

// noWait is the shortest -wait, also for 0: as long as a TPM that nobody else uses needs to
// accept a connection.
const noWait = 100 * time.Millisecond

// maxWait prevents overflows of times.
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

// A PolicyFlag is the flag -policy: the policy of a new key, or the one that a key was made with.
type PolicyFlag struct {
	Policy *tpmkey.Policy // nil if not given
	text   string
}

// Policy defines -policy for something new.
func (fs *FlagSet) Policy() *PolicyFlag {
	return fs.policy("TPM 2.0: `POLICY` for its use: pcr:sha256:7,11 means that these PCRs must have the values they have now, " +
		"auth asks for its secret, command:sign allows one command; + joins steps")
}

// SealPolicy defines -policy for sealed data.
func (fs *FlagSet) SealPolicy() *PolicyFlag {
	return fs.policy("`POLICY` for its use: pcr:sha256:7,11 (TPM 1.2: pcr:sha1:7,11) means that these PCRs must have the values they have now; " +
		"TPM 2.0: auth asks for its secret, command:unseal allows one command; + joins steps")
}

// KeyPolicy defines -policy for something that exists.
func (fs *FlagSet) KeyPolicy() *PolicyFlag {
	return fs.policy("TPM 2.0: `POLICY` that it was made with, if the file does not say the steps: pcr:sha256:7,11 for PCRs as they are now, " +
		"auth for its secret, command:sign for one command; + joins steps, in their order")
}

func (fs *FlagSet) policy(usage string) *PolicyFlag {
	f := new(PolicyFlag)
	fs.Var(f, "policy", usage)
	return f
}

// Set parses a policy.
func (f *PolicyFlag) Set(text string) error {
	policy, err := tpmkey.ParsePolicy(text)
	if err != nil {
		return err
	}
	f.Policy, f.text = policy, text
	return nil
}

func (f *PolicyFlag) String() string { return f.text }
