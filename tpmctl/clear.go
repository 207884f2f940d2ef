package main

import (
	"context"
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

// clearWarning says what is lost when a TPM 1.2 is cleared.
const clearWarning = `clearing %v (%s) cannot be undone. You lose:
- every key file made by this TPM (create_tpm_key, keygen), and everything encrypted for those keys;
- data sealed to this TPM;
- directories of ecryptmount that use one of those key files;
- the secrets of its owner and its storage root key (SRK).
A backup of the files does not help`

// clearWarning20 says what is lost when a TPM 2.0 is cleared.
const clearWarning20 = `clearing %v (%s) cannot be undone. You lose:
- every key file made by this TPM (keygen, tpm2-openssl, tpm2-tools, …), and everything encrypted for those keys;
- the persistent keys of its owner, and what programs of the system store in it;
- data sealed to this TPM by tpmctl seal, and the keys that open encrypted disks (BitLocker, systemd-cryptenroll, clevis) without a password;
- directories of ecryptmount that use one of those key files;
- the secrets of its owner, endorsement and lockout hierarchies.
A backup of the files does not help`

func clearTPM(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It asks for confirmation unless -yes is given. -force is for a lost owner's secret: it needs physical presence, which most " +
		"firmware lets no program assert. If the firmware takes requests, tpmctl asks it to clear the TPM at the next start.\n\n" +
		"A TPM 1.2 is disabled and deactivated afterwards; tpmctl own makes it ready again. A TPM 2.0 needs the secret of its " +
		"lockout hierarchy (-owner-pass), which is asked for only if it was set, and is ready at once. A wrong " +
		"lockout secret locks that hierarchy for a configured time, often a day."
	fs.Example = "tpmctl clear\ntpmctl clear -yes -owner-pass file:secret"
	which := fs.TPM()
	owner := ownerPass(fs, "`SECRET` of the owner; TPM 2.0: of the lockout hierarchy")
	force := fs.Bool("force", "without the owner's secret, by physical presence")
	yes := fs.Bool("yes", "do not ask for confirmation")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	c := clearCommand{owner: owner, by: tpmkey.OwnerSecret(owner.Secret()), force: *force, yes: *yes}
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

type clearCommand struct {
	owner      *cli.SecretFlag
	by         tpmkey.Authority
	force, yes bool
}

// confirm asks for confirmation unless -yes was given.
func (c *clearCommand) confirm(env *cli.Env, s *tpmkey.Status) error {
	env.Notef(map[bool]string{true: clearWarning20, false: clearWarning}[s.Family == "2.0"], s, s.Name)
	if c.yes {
		return nil
	}
	return env.Confirm(fmt.Sprintf("Clear %v (%s)?", s, s.Name), "yes", "yes")
}

// run clears the TPM. The TPM stays open from the confirmation on, so that it is the one that was
// confirmed.
func (c *clearCommand) run(env *cli.Env, tpm *tpmkey.TPM) error {
	s, err := tpm.Status(context.Background())
	if err != nil {
		return err
	}
	if s.Family == "2.0" {
		askLockout(c.owner)
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

func (c *clearCommand) clear(env *cli.Env, tpm *tpmkey.TPM, s *tpmkey.Status) error {
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
		err = hintLockout(err, "; the firmware's (BIOS) menu clears the TPM without it, and tpmctl clear -force asks the firmware to")
	}
	if err == nil || !c.force {
		return err
	}
	if c.forFirmware(err, s) {
		err = fmt.Errorf("%w: %w", tpmkey.ErrPhysicalPresence, err)
	}
	if s.Family == "2.0" && (sysfs.Kernel{}).Node(tpm.Name()) == nil { // a software TPM has no firmware
		return cli.WithHint(err, "leave out -force and give the lockout secret (-owner-pass); if that is lost, start the software TPM in an empty directory")
	}
	if s.Family == "2.0" { // all three do the same to a TPM 2.0
		return askFirmware(tpm, err, "keygen", sysfs.RequestClear, sysfs.RequestClearEnableActivate, sysfs.RequestEnableClearEnable)
	}
	return askFirmware(tpm, err, "tpmctl own", sysfs.RequestEnableClearEnable, sysfs.RequestClearEnableActivate, sysfs.RequestClear)
}

// forFirmware reports whether only the firmware can clear the TPM: it can enable, clear and enable
// it again in one request.
func (c *clearCommand) forFirmware(err error, s *tpmkey.Status) bool {
	return c.force && s.Presence.Locked && errors.Is(err, tpmkey.ErrDisabled)
}
