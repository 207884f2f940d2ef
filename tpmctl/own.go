package main

import (
	"context"
	"fmt"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

func own(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It first enables and activates the TPM, as far as the firmware lets a program do that. If that needs a restart or " +
		"the firmware's menu it says so; run it again afterwards.\n\n" +
		"The owner's secret is for administration; the SRK's secret is needed to load a key. " +
		"With the well-known secret (20 zero bytes) everybody can do so."
	fs.Example = "tpmctl own\ntpmctl own -owner-pass prompt -srk-pass pass:"
	which := fs.TPM()
	owner := fs.Secret("owner-pass", cli.SecretOptions{Default: "wellknown", Label: "New secret of the TPM's owner", New: true},
		"new `SECRET` of the owner")
	srk := fs.Secret("srk-pass", cli.SecretOptions{Default: "wellknown", Label: "New secret of the storage root key (SRK)", New: true},
		"new `SECRET` of the storage root key")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	err := env.WithGuardedTPM(which, func(tpm *tpmkey.TPM) error {
		if err := refuse20(tpm, "take ownership"); err != nil {
			return err
		}
		if err := switchOn(env, tpm); err != nil {
			return err
		}
		defer env.Progress("taking ownership; a chip can take a minute or two")()
		defer abandonOnSignal(env, tpm)()
		return hintOutcome(tpm.TakeOwnership(context.Background(), owner.Secret(), srk.Secret()))
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, "the TPM has an owner now; make a key with keygen")
	return err
}

// switchOn enables and activates a TPM without an owner and allows it to have one. If that needs a
// restart or the firmware, it returns an error that says what to do.
func switchOn(env *cli.Env, tpm *tpmkey.TPM) error {
	s, err := tpm.Status(context.Background())
	if err != nil {
		return err
	}
	if s.Owned {
		return nil // TakeOwnership returns the error
	}
	notePresence(env, s)
	defer finishOnSignal(env, tpm)()
	ctx := context.Background()
	activate := func() (tpmkey.Result, error) { return tpm.Activate(ctx) }
	for _, step := range []struct {
		missing bool
		state   string
		do      func() (tpmkey.Result, error)
		done    string
	}{
		{!s.Enabled, "disabled", func() (tpmkey.Result, error) { return tpm.Enable(ctx, tpmkey.PhysicalPresence()) }, "enabled it"},
		{!s.Active, "deactivated", activate, "activated it"},
		{s.UntilRestart, "active until its next start only", activate, "activated it"},
		{!s.CanBeOwned, "set never to have an owner", func() (tpmkey.Result, error) { return tpm.AllowOwner(ctx) }, "allowed it"},
	} {
		if !step.missing {
			continue
		}
		result, err := step.do()
		if result.Changed {
			env.Notef("the TPM was %s; %s", step.state, step.done)
		}
		if err == nil && result.RestartNeeded {
			return cli.WithHint(fmt.Errorf("take ownership: the TPM is %s: a restart is needed (it is active only from its next start on)", step.state), restartHint(tpm, "tpmctl own"))
		}
		if err != nil {
			err = fmt.Errorf("take ownership: the TPM is %s: %w", step.state, err)
			return hintOutcome(askFirmware(tpm, err, "tpmctl own", ownRequests(s)...))
		}
	}
	return nil
}

// ownRequests returns requests to the firmware for a TPM without an owner: one for everything that
// is missing, then one for the first step.
func ownRequests(s *tpmkey.Status) []sysfs.Request {
	all := sysfs.RequestEnableActivate
	if !s.CanBeOwned {
		all = sysfs.RequestEnableActivateAllowOwner
	}
	switch {
	case !s.Enabled:
		return []sysfs.Request{all, sysfs.RequestEnableActivate, sysfs.RequestEnable}
	case !s.Active, s.UntilRestart:
		return []sysfs.Request{all, sysfs.RequestEnableActivate, sysfs.RequestActivate}
	}
	return []sysfs.Request{all, sysfs.RequestAllowOwner}
}
