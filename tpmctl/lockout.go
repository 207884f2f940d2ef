package main

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/chip"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

func resetLockout(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It works while the TPM is locked. You have one try for the owner's secret: after a wrong one the TPM refuses every secret, " +
		"even the right one, until the lock has ended, and the lock lasts longer.\n\n" +
		"A TPM 2.0 needs the secret of its lockout hierarchy (-owner-pass). It is asked for only if it was set. You have one try for it, " +
		"too: after a wrong one the TPM refuses it for a configured time, often a day."
	fs.Example = "tpmctl reset-lockout"
	which := fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner; TPM 2.0: of the lockout hierarchy")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	return env.WithTPM(which, func(tpm *tpmkey.TPM) error {
		two := tpm.Family() == "2.0"
		if two {
			askLockout(owner)
		}
		result, err := tpm.ResetLockout(context.Background(), tpmkey.OwnerSecret(owner.Secret()))
		switch {
		case two && err != nil:
			return hintLockout(err, "")
		case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
			hint := "the TPM takes the next try only after the lock has ended: wait until tpmctl status shows no lock, and try once with the right secret"
			if !errors.Is(err, chip.ErrWasDefault) {
				hint += "; if none was ever set, that is -owner-pass wellknown"
			}
			return cli.WithHint(err, hint)
		case errors.Is(err, tpmkey.ErrLockedOut):
			return cli.WithHint(err, "wait until tpmctl status shows no lock, and try once with the right secret")
		case err != nil:
			return err
		}
		text := "the count of wrong secrets is zero now"
		if !result.Changed {
			text = "there is nothing to reset: the count of wrong secrets is zero"
		}
		_, err = fmt.Fprintln(env.Stdout, text)
		return err
	})
}

// askLockout makes the flag ask for the secret that a TPM 2.0 takes instead of an owner's. It asks
// only if the TPM says that this secret is set.
func askLockout(owner *cli.SecretFlag) {
	owner.Label = "Secret of the TPM's lockout hierarchy"
	owner.NoPromptHint = "; you have one try: a wrong secret locks that hierarchy for a configured time, often a day"
}

// hintLockout adds a hint if a TPM 2.0 refused the lockout secret or is locked after a wrong one.
// sooner ends the hint.
func hintLockout(err error, sooner string) error {
	if errors.Is(err, tpmkey.ErrWrongOwnerSecret) || errors.Is(err, tpmkey.ErrLockedOut) {
		return cli.WithHint(err, "wait that long, and try once with the right secret; nothing makes the TPM take it sooner, and tpmctl status does not show when it does"+sooner)
	}
	return err
}
