package main

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

// lossText is what clearing costs, for somebody who is about to confirm it.
const lossText = `clearing %v (%s) is for good. What works no more afterwards:
- every key file made by this TPM (create_tpm_key, keygen), and what was encrypted for those keys;
- data sealed to this TPM;
- directories of ecryptmount whose key file is one of them;
- the secrets of its owner and its storage root key (SRK).
No backup of the files brings any of this back`

// lossText20 is lossText for a TPM 2.0.
const lossText20 = `clearing %v (%s) is for good. What works no more afterwards:
- every key file made by this TPM (keygen, tpm2-openssl, tpm2-tools, …), and what was encrypted for those keys;
- the keys that it keeps itself for its owner, and what programs of the system keep in it;
- data sealed to this TPM: of tpmctl seal, and the keys that open encrypted disks (BitLocker, systemd-cryptenroll, clevis) without a password;
- directories of ecryptmount whose key file is one of them;
- the secrets of its owner, endorsement and lockout hierarchies.
No backup of the files brings any of this back`

func clearTPM(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It asks before it does so, unless -yes is given. -force is for a lost owner's secret: it needs physical presence, for which " +
		"most firmware lets no program stand in; where the firmware can be asked to clear the TPM at the next start, it is asked.\n\n" +
		"A TPM 1.2 is disabled and deactivated afterwards; tpmctl own makes it ready again. A TPM 2.0 is cleared by the secret of its " +
		"lockout hierarchy, which -owner-pass gives and which is asked for only where it was set, and is ready at once. A wrong " +
		"lockout secret locks that hierarchy for as long as it was set to, often a day."
	fs.Example = "tpmctl clear\ntpmctl clear -yes -owner-pass file:secret"
	which := fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner; TPM 2.0: of the lockout hierarchy")
	force := fs.Bool("force", "without the owner's secret, by physical presence")
	yes := fs.Bool("yes", "do not ask whether this is meant")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	c := clearing{owner: owner, by: tpmkey.OwnerSecret(owner.Secret()), force: *force, yes: *yes}
	if *force {
		if owner.Given() {
			return &cli.UsageError{
				Text:   "-force is for a TPM whose owner's secret is lost: leave out -owner-pass or -force",
				Advice: "tpmctl clear -h says more",
			}
		}
		c.by = tpmkey.PhysicalPresence()
	}
	return changeTPM(env, which, func(tpm *tpmkey.TPM) error { return c.run(env, tpm) })
}

// clearing is what was asked for.
type clearing struct {
	owner      *cli.SecretFlag
	by         tpmkey.Authority
	force, yes bool
}

// confirm has somebody confirm it.
func (c *clearing) confirm(env *cli.Env, s *tpmkey.Status) error {
	env.Notef(map[bool]string{true: lossText20, false: lossText}[s.Family == "2.0"], s, s.Name)
	if c.yes {
		return nil
	}
	return env.Confirm(fmt.Sprintf("Clear %v (%s)?", s, s.Name), "yes", "yes")
}

// run clears the TPM that was confirmed: it stays open meanwhile. Others may use a
// software TPM of this project in between.
func (c *clearing) run(env *cli.Env, tpm *tpmkey.TPM) error {
	s, err := tpm.Status(context.Background())
	if err != nil {
		return err
	}
	if s.Family == "2.0" {
		c.owner.Label = lockoutLabel
	} else if !s.Owned {
		_, err := fmt.Fprintln(env.Stdout, "the TPM has no owner: there is nothing to clear")
		return err
	}
	if err := c.clear(env, tpm, s); err != nil {
		return err
	}
	done := "it has no owner, and is disabled and deactivated; to use it again: tpmctl own"
	if s.Family == "2.0" {
		done = "make new keys with keygen"
	}
	_, err = fmt.Fprintln(env.Stdout, "the TPM is cleared: "+done)
	return err
}

func (c *clearing) clear(env *cli.Env, tpm *tpmkey.TPM, s *tpmkey.Status) error {
	var confirmed, refused bool
	confirm := func() error {
		confirmed = true
		err := c.confirm(env, s)
		refused = err != nil
		return err
	}
	_, err := tpm.Clear(context.Background(), c.by, confirm)
	if !confirmed && c.forFirmware(err, s) {
		if refusal := confirm(); refusal != nil {
			return refusal
		}
	}
	if !confirmed || refused {
		return err
	}
	if s.Family == "2.0" {
		err = hintLockout(err)
	}
	if err == nil || !c.force {
		return err
	}
	if c.forFirmware(err, s) {
		err = fmt.Errorf("%w: %w", tpmkey.ErrPhysicalPresence, err)
	}
	if s.Family == "2.0" && (sysfs.Kernel{}).Node(tpm.Name()) == nil { // a software TPM, which nobody's firmware starts
		return cli.WithHint(err, "leave out -force: it takes the lockout secret (-owner-pass); where that is lost, a software TPM starts anew in an empty directory")
	}
	if s.Family == "2.0" { // to which all three are the same
		return askFirmware(tpm, err, "keygen", sysfs.RequestClear, sysfs.RequestClearEnableActivate, sysfs.RequestEnableClearEnable)
	}
	return askFirmware(tpm, err, "tpmctl own", sysfs.RequestEnableClearEnable, sysfs.RequestClearEnableActivate, sysfs.RequestClear)
}

// forFirmware reports a refusal for which the firmware is left: it can enable the
// TPM, clear it, and enable it again, at one go.
func (c *clearing) forFirmware(err error, s *tpmkey.Status) bool {
	return c.force && s.Presence.Locked && errors.Is(err, tpmkey.ErrDisabled)
}
