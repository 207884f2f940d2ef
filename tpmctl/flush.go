package main

import (
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

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
