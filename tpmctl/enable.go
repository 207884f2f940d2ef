package main

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

const presenceNotes = "Without -owner-pass it needs physical presence, that is, a person at the machine; most firmware lets no program assert it. " +
	"If the firmware takes requests, tpmctl asks it to do this at the next start; otherwise use its menu."

func enable(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = presenceNotes
	fs.Example = "tpmctl enable\ntpmctl enable -owner-pass prompt"
	which, by, err := authorityFlags(fs, args)
	if err != nil {
		return err
	}
	return change12(env, which, "enable the TPM", func(tpm *tpmkey.TPM) error {
		result, err := tpm.Enable(context.Background(), by)
		if err != nil {
			err = askFirmware(tpm, err, "tpmctl enable", sysfs.RequestEnableActivate, sysfs.RequestEnable)
			return addOwnerHint(tpm, err, "tpmctl enable")
		}
		s, err := tpm.Status(context.Background())
		if err != nil {
			return err
		}
		return printState(env, result.Changed, "the TPM is enabled", missing(s, tpm))
	})
}

// missing says what an enabled TPM still needs.
func missing(s *tpmkey.Status, tpm *tpmkey.TPM) string {
	switch {
	case s.RestartNeeded:
		return "; it is active from its next start on: " + restartText(tpm.Name(), tpm.Emulator())
	case !s.Active:
		return "; it is deactivated: tpmctl activate"
	case s.UntilRestart:
		return "; it is active until its next start only: tpmctl activate keeps it"
	case !s.Owned:
		return "; it has no owner: tpmctl own"
	}
	return ""
}

func disable(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = presenceNotes
	fs.Example = "tpmctl disable -owner-pass prompt"
	which, by, err := authorityFlags(fs, args)
	if err != nil {
		return err
	}
	return change12(env, which, "disable the TPM", func(tpm *tpmkey.TPM) error {
		result, err := tpm.Disable(context.Background(), by)
		switch {
		case errors.Is(err, tpmkey.ErrPhysicalPresence) && owned(tpm):
			return cli.WithHint(err, "the owner's secret does it now: tpmctl disable -owner-pass prompt; without it the firmware's (BIOS) menu can")
		case err != nil:
			return hintNoOwner(askFirmware(tpm, err, "tpmctl status", sysfs.RequestDisable), "tpmctl disable")
		}
		return printState(env, result.Changed, "the TPM is disabled", "; tpmctl enable makes its keys work again")
	})
}

func activate(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It needs physical presence, as tpmctl enable does, and takes effect at the TPM's next start. A disabled TPM must be enabled first."
	fs.Example = "tpmctl activate"
	which := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	return change12(env, which, "activate the TPM", func(tpm *tpmkey.TPM) error {
		result, err := tpm.Activate(context.Background())
		switch {
		case errors.Is(err, tpmkey.ErrDisabled):
			return cli.WithHint(err, "run tpmctl enable, then tpmctl activate")
		case err != nil:
			return askFirmware(tpm, err, "tpmctl activate", sysfs.RequestActivate, sysfs.RequestEnableActivate)
		case result.RestartNeeded:
			return printState(env, result.Changed, "the TPM is activated", ", from its next start on: "+restartText(tpm.Name(), tpm.Emulator()))
		}
		return printState(env, result.Changed, "the TPM is active", "")
	})
}

func deactivate(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It needs physical presence, as tpmctl disable does without -owner-pass."
	fs.Example = "tpmctl deactivate"
	which := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	return change12(env, which, "deactivate the TPM", func(tpm *tpmkey.TPM) error {
		result, err := tpm.Deactivate(context.Background())
		switch {
		case errors.Is(err, tpmkey.ErrDisabled):
			return cli.WithHint(err, "no key works while the TPM is disabled; to have it deactivated, too, run tpmctl enable, then tpmctl deactivate")
		case err != nil:
			return askFirmware(tpm, err, "tpmctl status", sysfs.RequestDeactivate)
		}
		return printState(env, result.Changed, "the TPM is deactivated", ", from its next start on")
	})
}

// owned reports whether a TPM has an owner; false if unknown.
func owned(tpm *tpmkey.TPM) bool {
	s, err := tpm.Status(context.Background())
	return err == nil && s.Owned
}

// addOwnerHint adds to a hint about physical presence that the owner's secret also works.
func addOwnerHint(tpm *tpmkey.TPM, err error, command string) error {
	var hinted interface{ Hint() string }
	if errors.Is(err, tpmkey.ErrPhysicalPresence) && errors.As(err, &hinted) && owned(tpm) {
		return cli.WithHint(err, hinted.Hint()+"; the owner's secret does it now: "+command+" -owner-pass prompt")
	}
	return hintNoOwner(err, command)
}

// hintNoOwner adds a hint if an owner's secret was given but the TPM has no owner.
func hintNoOwner(err error, command string) error {
	if errors.Is(err, tpmkey.ErrNotOwned) {
		return cli.WithHint(err, "leave out -owner-pass: "+command)
	}
	return err
}

// authorityFlags defines and parses the flags of changes that need the owner's secret or physical
// presence.
func authorityFlags(fs *cli.FlagSet, args []string) (which *cli.TPMFlag, by tpmkey.Authority, err error) {
	which = fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner (default physical presence)")
	if _, err := fs.Parse(args); err != nil {
		return nil, by, err
	}
	if owner.Given() {
		return which, tpmkey.OwnerSecret(owner.Secret()), nil
	}
	return which, tpmkey.PhysicalPresence(), nil
}

// ownerPass defines -owner-pass for the secret of an existing owner.
func ownerPass(fs *cli.FlagSet, usage string) *cli.SecretFlag {
	return fs.Secret("owner-pass", cli.SecretOptions{Default: "prompt", Label: "Secret of the TPM's owner"}, usage)
}

// printState prints the new state, and whether it was the state already.
func printState(env *cli.Env, changed bool, what, rest string) error {
	if !changed {
		what += " already"
	}
	_, err := fmt.Fprintln(env.Stdout, what+rest)
	return err
}
