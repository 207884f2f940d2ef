package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// changeTPM opens a TPM and changes its state. A signal does not interrupt it, because physical
// presence would stay asserted.
func changeTPM(env *cli.Env, which *cli.TPMFlag, change func(*tpmkey.TPM) error) error {
	return env.WithGuardedTPM(which, func(tpm *tpmkey.TPM) error {
		defer finishOnSignal(env, tpm)()
		if s, err := tpm.Status(context.Background()); err == nil { // otherwise change returns the error
			notePresence(env, s)
		}
		return hintOutcome(change(tpm))
	})
}

// change12 is changeTPM for changes that only a TPM 1.2 has.
func change12(env *cli.Env, which *cli.TPMFlag, doing string, change func(*tpmkey.TPM) error) error {
	return changeTPM(env, which, func(tpm *tpmkey.TPM) error {
		if err := refuse20(tpm, doing); err != nil {
			return err
		}
		return change(tpm)
	})
}

// refuse20 refuses a TPM 2.0 before it asks for a secret.
func refuse20(tpm *tpmkey.TPM, doing string) error {
	if tpm.Family() == "1.2" {
		return nil
	}
	return cli.WithHint(fmt.Errorf("%s: %w: that is for a TPM 1.2, and this is a TPM 2.0, which is ready for keys as it is", doing, tpmkey.ErrNotSupported),
		"make a key with keygen; the firmware's (BIOS) menu switches a TPM 2.0 on and off")
}

// notePresence warns if physical presence is asserted, by a person or a killed program. It does not
// end it, because it did not assert it.
func notePresence(env *cli.Env, s *tpmkey.Status) {
	if s.Family == "1.2" && s.Presence.Asserted && !s.Presence.Locked {
		env.Notef("physical presence is asserted, so any program may enable, disable or clear this TPM; a restart ends it: %s", restartText(s.Name, s.Emulator))
	}
}

// outcomeText is a hint for a TPM command whose reply was lost.
const outcomeText = "the TPM may have done it all the same: check with tpmctl status"

// hintOutcome adds outcomeText to the error of a lost connection.
func hintOutcome(err error) error {
	if errors.Is(err, tpmkey.ErrGone) {
		return cli.WithHint(err, outcomeText)
	}
	return err
}

// finishOnSignal delays a signal until the current TPM command is done, so that physical presence
// does not stay asserted.
func finishOnSignal(env *cli.Env, tpm *tpmkey.TPM) (stop func()) {
	return env.FinishOnSignal(func() { tpm.Close() },
		"waiting for the TPM to finish; "+outcomeText+"; a second signal ends this at once",
		"ended before the TPM was done: physical presence may stay asserted until its next start; "+outcomeText)
}

// abandonOnSignal ends the program at once on a signal, with a note if a TPM command is running.
func abandonOnSignal(env *cli.Env, tpm *tpmkey.TPM) (stop func()) {
	const soon = 100 * time.Millisecond
	return cli.OnSignal(func() {
		idle := make(chan struct{})
		go func() {
			defer close(idle)
			tpm.Close()
		}()
		select {
		case <-idle:
		case <-time.After(soon):
			env.NoteNow("ended before the TPM was done: " + outcomeText)
		}
	})
}
