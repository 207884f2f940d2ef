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
	var keys, sessions int
	err := env.WithTPM(*name, func(tpm *tpmkey.TPM) (err error) {
		if sessions, err = tpm.FlushSessions(); err != nil {
			return err
		}
		keys, err = tpm.FlushAll()
		return err
	})
	if err != nil {
		return err
	}
	what := cli.Counted(keys, "loaded key")
	if sessions > 0 {
		what += " and " + cli.Counted(sessions, "session")
	}
	_, err = fmt.Fprintln(env.Stdout, what+" freed")
	return err
}
