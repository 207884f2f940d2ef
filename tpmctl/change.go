package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// changeTPM opens a TPM and changes its state, which a signal does not cut short:
// physical presence would stay asserted.
func changeTPM(env *cli.Env, which *cli.TPMFlag, change func(*tpmkey.TPM) error) error {
	return env.WithGuardedTPM(which, func(tpm *tpmkey.TPM) error {
		defer finishOnSignal(env, tpm)()
		if s, err := tpm.Status(context.Background()); err == nil { // else change says why
			notePresence(env, s)
		}
		return unsure(change(tpm))
	})
}

// change12 is changeTPM for what a TPM 2.0 does not know.
func change12(env *cli.Env, which *cli.TPMFlag, doing string, change func(*tpmkey.TPM) error) error {
	return changeTPM(env, which, func(tpm *tpmkey.TPM) error {
		if err := refuse20(tpm, doing); err != nil {
			return err
		}
		return change(tpm)
	})
}

// refuse20 refuses a TPM 2.0, before a secret is asked.
func refuse20(tpm *tpmkey.TPM, doing string) error {
	if tpm.Family() == "1.2" {
		return nil
	}
	return cli.WithHint(fmt.Errorf("%s: %w: that is for a TPM 1.2, and this is a TPM 2.0, which is ready for keys as it is", doing, tpmkey.ErrNotSupported),
		"make a key with keygen; what switches a TPM 2.0 on and off is the firmware's (BIOS) menu")
}

// notePresence warns of physical presence that somebody, or a program that was
// killed, left asserted. It is not this program's to take back.
func notePresence(env *cli.Env, s *tpmkey.Status) {
	if s.Family == "1.2" && s.Presence.Asserted && !s.Presence.Locked {
		env.Notef("physical presence is asserted, so any program may enable, disable or clear this TPM; a restart ends it: %s", restartText(s.Name, s.Emulator))
	}
}

// unsureText is for a command whose answer never came.
const unsureText = "it may have been carried out all the same: look with tpmctl status"

// unsure says of a lost connection what it means for a command that changes the
// TPM's state.
func unsure(err error) error {
	if errors.Is(err, tpmkey.ErrGone) {
		return cli.WithHint(err, unsureText)
	}
	return err
}

// finishOnSignal lets a signal end the program only when the TPM's command under
// way is over, so that physical presence does not stay asserted.
func finishOnSignal(env *cli.Env, tpm *tpmkey.TPM) (stop func()) {
	return env.FinishOnSignal(func() { tpm.Close() },
		"finishing what the TPM is doing; "+unsureText+"; a second signal ends this at once",
		"ended before the TPM was done: physical presence may stay asserted until its next start; "+unsureText)
}

// abandonOnSignal lets a signal end the program at once, and says so where a
// command of the TPM's is under way.
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
			env.NoteNow("ended before the TPM was done: " + unsureText)
		}
	})
}

func resetLockout(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It works while the TPM is locked. Of the owner's secret there is one try: after a wrong one the TPM takes none, " +
		"not even the right one, until the lock is over, which lasts longer then.\n\n" +
		"A TPM 2.0 takes the secret of its lockout hierarchy, which -owner-pass gives and which is asked for only where it was set. " +
		"There is one try of that, too: after a wrong one the TPM looks at none for as long as it was set to, often a day."
	fs.Example = "tpmctl reset-lockout"
	which := fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner; TPM 2.0: of the lockout hierarchy")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	return env.WithTPM(which, func(tpm *tpmkey.TPM) error {
		two := tpm.Family() == "2.0"
		if two {
			owner.Label = lockoutLabel
		}
		result, err := tpm.ResetLockout(context.Background(), tpmkey.OwnerSecret(owner.Secret()))
		switch {
		case two && err != nil:
			return hintLockout(err)
		case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
			return cli.WithHint(err, "the TPM looks at the next try only after the lock for wrong secrets has ended: wait until tpmctl status shows none, "+
				"and try once with the right secret; one that was never set is -owner-pass wellknown")
		case errors.Is(err, tpmkey.ErrLockedOut):
			return cli.WithHint(err, "wait until tpmctl status shows no lock, and try once with the right secret")
		case err != nil:
			return err
		}
		text := "no wrong secrets are counted any more"
		if !result.Changed {
			text = "there is nothing to reset: no wrong secrets are counted"
		}
		_, err = fmt.Fprintln(env.Stdout, text)
		return err
	})
}
