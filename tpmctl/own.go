package main

import (
	"fmt"

	"maclef/internal/cli"
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
	tpm, err := env.OpenTPM(*name)
	if err != nil {
		return err
	}
	defer tpm.Close()
	done := env.Progress("taking ownership; a chip can take a minute or two")
	err = tpm.TakeOwnership(owner.Secret(), srk.Secret())
	done()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, "the TPM has an owner now; make a key with keygen")
	return err
}

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "Programs that use the keys have to load them again."
	fs.Example = "tpmctl flush"
	name := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	tpm, err := env.OpenTPM(*name)
	if err != nil {
		return err
	}
	defer tpm.Close()
	n, err := tpm.FlushAll()
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
