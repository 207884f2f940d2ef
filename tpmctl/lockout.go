package main

import (
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

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
		changed, err := tpm.ResetLockout(tpmkey.OwnerSecret(owner.Secret()))
		switch {
		case two && errors.Is(err, tpmkey.ErrWrongOwnerSecret):
			return cli.WithHint(err, "wait that long, and try once with the right secret; tries of other secrets come back meanwhile, see tpmctl status")
		case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
			return cli.WithHint(err, "the TPM looks at the next try only after the lock for wrong secrets has ended: wait until tpmctl status shows none, "+
				"and try once with the right secret; one that was never set is -owner-pass wellknown")
		case errors.Is(err, tpmkey.ErrLockedOut):
			return cli.WithHint(err, "wait until tpmctl status shows no lock, and try once with the right secret")
		case err != nil:
			return err
		}
		text := "no wrong secrets are counted any more"
		if !changed {
			text = "there is nothing to reset: no wrong secrets are counted"
		}
		_, err = fmt.Fprintln(env.Stdout, text)
		return err
	})
}
