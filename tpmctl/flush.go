package main

import (
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It frees the keys and authorization sessions that no running program says are its\n" +
		"own: those that killed programs left, and those of programs that do not tell, which\n" +
		"are all but this project's. tpmctl status shows whose they are."
	fs.Example = "tpmctl flush"
	name := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	var keys, sessions int
	err := env.WithTPM(*name, func(tpm *tpmkey.TPM) (err error) {
		keys, sessions, err = tpm.FlushLeftovers()
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
