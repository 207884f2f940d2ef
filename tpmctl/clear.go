package main

import (
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// lossText is what clearing costs, for somebody who is about to confirm it.
const lossText = `clearing %v (%s) is for good. What works no more afterwards:
- every key file made by this TPM (create_tpm_key, keygen), and what was encrypted for those keys;
- data sealed to this TPM;
- directories of ecryptmount whose key file is one of them;
- the secrets of its owner and its storage root key (SRK).
No backup of the files brings any of this back`

func clearTPM(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It asks before it does so, unless -yes is given. -force is for a lost owner's secret: it needs physical presence, for which " +
		"most firmware lets no program stand in; where the firmware can be asked to clear the TPM at the next start, it is asked.\n\n" +
		"Afterwards the TPM is disabled and deactivated; tpmctl own makes it ready again."
	fs.Example = "tpmctl clear\ntpmctl clear -yes -owner-pass file:secret"
	name := fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner")
	force := fs.Bool("force", "without the owner's secret, by physical presence")
	yes := fs.Bool("yes", "do not ask whether this is meant")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	by := tpmkey.OwnerSecret(owner.Secret())
	if *force {
		if owner.Given() {
			return cli.Usagef("-force is for a TPM whose owner's secret is lost: leave out -owner-pass or -force")
		}
		by = tpmkey.PhysicalPresence()
	}
	owned, err := confirmClear(env, *name, *yes)
	if err != nil {
		return err
	}
	if !owned {
		_, err := fmt.Fprintln(env.Stdout, "the TPM has no owner: there is nothing to clear")
		return err
	}
	if err := env.WithTPM(*name, func(tpm *tpmkey.TPM) error { return clearBy(tpm, by, *force) }); err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, "the TPM is cleared: it has no owner, and is disabled and deactivated; to use it again: tpmctl own")
	return err
}

// confirmClear reports whether there is anything to clear, and has the user
// confirm that. Others may use the TPM meanwhile.
func confirmClear(env *cli.Env, name string, yes bool) (owned bool, err error) {
	var s *tpmkey.Status
	err = env.WithTPM(name, func(tpm *tpmkey.TPM) (err error) {
		s, err = tpm.Status()
		return err
	})
	switch {
	case err != nil:
		return false, err
	case s.Family == "1.2" && !s.Owned:
		return false, nil
	case s.Family != "1.2": // Clear has the words for it
		return true, nil
	}
	env.Notef(lossText, s, s.Name)
	if yes {
		return true, nil
	}
	return true, env.Confirm(fmt.Sprintf("Clear %v (%s)?", s, s.Name), "yes", "yes")
}

func clearBy(tpm *tpmkey.TPM, by tpmkey.Authority, force bool) error {
	defer finishOnSignal(tpm)()
	_, err := tpm.Clear(by)
	if err == nil || !force {
		return err
	}
	if errors.Is(err, tpmkey.ErrDisabled) {
		// The firmware can enable it, clear it, and enable it again, at one go.
		s, status := tpm.Status()
		if status == nil && s.Presence.Locked {
			err = fmt.Errorf("%w: %w", tpmkey.ErrPhysicalPresence, err)
		}
	}
	return askFirmware(tpm, err, "tpmctl own", transport.RequestEnableClearEnable, transport.RequestClearEnableActivate, transport.RequestClear)
}
