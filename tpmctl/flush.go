package main

import (
	"errors"
	"fmt"
	"strings"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It frees the keys and authorization sessions that no running program says are its own: those that killed programs " +
		"left, and those of programs that do not tell, which are all but this project's. What a running program says is its own stays."
	fs.Example = "tpmctl flush"
	which := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	var keys, sessions int
	var left loaded
	err := env.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		if keys, sessions, err = tpm.FlushLeftovers(); err == nil {
			left = readLoaded(tpm)
		}
		return err
	})
	if keys+sessions > 0 || err == nil {
		_, failed := fmt.Fprint(env.Stdout, flushedText(keys, sessions, left))
		err = errors.Join(err, failed)
	}
	return err
}

// flushedText says what was freed, and what was not.
func flushedText(keys, sessions int, left loaded) string {
	var b strings.Builder
	switch {
	case keys+sessions == 0:
		b.WriteString("nothing was left behind\n")
	default:
		fmt.Fprintf(&b, "freed %s\n", countLoaded(keys, sessions))
	}
	for _, of := range left.byOwner() {
		if of.pid == 0 { // the owner's, or of a moment ago
			fmt.Fprintf(&b, "still there: %s\n", of.what())
			continue
		}
		fmt.Fprintf(&b, "left %s in use by %s\n", of.what(), of.who())
	}
	return b.String()
}
