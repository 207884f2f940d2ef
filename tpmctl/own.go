package main

import (
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func own(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "The owner's secret is for administration; the SRK's secret is needed whenever a key\n" +
		"is loaded. The well-known secret (20 zero bytes) means that everybody may."
	fs.Example = "tpmctl own\ntpmctl own -owner-pass prompt -srk-pass pass:"
	name := fs.TPM()
	owner := fs.Secret("owner-pass", cli.SecretOptions{Default: "wellknown", Label: "New secret of the TPM's owner", New: true},
		"new `SECRET` of the owner")
	srk := fs.Secret("srk-pass", cli.SecretOptions{Default: "wellknown", Label: "New secret of the storage root key (SRK)", New: true},
		"new `SECRET` of the storage root key")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	err := env.WithTPM(*name, func(tpm *tpmkey.TPM) error {
		defer env.Progress("taking ownership; a chip can take a minute or two")()
		return tpm.TakeOwnership(owner.Secret(), srk.Secret())
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, "the TPM has an owner now; make a key with keygen")
	return err
}

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It frees authorization sessions, too. Programs that use the keys have to load them\n" +
		"again."
	fs.Example = "tpmctl flush"
	name := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	n := 0
	err := env.WithTPM(*name, func(tpm *tpmkey.TPM) (err error) {
		n, err = tpm.FlushAll()
		return err
	})
	if err != nil {
		return err
	}
	noun := "keys"
	if n == 1 {
		noun = "key"
	}
	_, err = fmt.Fprintf(env.Stdout, "%d loaded %s freed\n", n, noun)
	return err
}
