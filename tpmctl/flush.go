package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It frees the keys and authorization sessions that are loaded in a bare TPM (/dev/tpm0, a software TPM) while nobody else has it " +
		"open. Programs of this project leave none behind unless they are killed. Other programs may lose keys that they still need. Behind the " +
		"kernel's resource manager (/dev/tpmrm0) there is nothing to free.\n\nA program may load a saved session again: one of this project that must " +
		"not keep its secret in memory, or another, such as tpm2_startauthsession -S. -saved frees these sessions, too. Programs of this project then ask for the " +
		"secret again; others lose their session."
	fs.Example = "tpmctl flush\ntpmctl flush -saved"
	which := fs.TPM()
	saved := fs.Bool("saved", "free saved sessions, too")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	var keys, sessions int
	var left loaded
	err := env.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		if keys, sessions, err = tpm.FlushOrphans(context.Background(), *saved); err == nil {
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

// flushedText says what was freed and what is left.
func flushedText(keys, sessions int, left loaded) string {
	text := ""
	if keys+sessions > 0 {
		text = fmt.Sprintf("freed %s\n", countLoaded(keys, sessions))
	}
	still, open, saved := left.count()
	if still+open > 0 { // of the caller, or loaded since then
		text += fmt.Sprintf("still there: %s\n", countLoaded(still, open))
	}
	if saved > 0 {
		text += fmt.Sprintf("left %s, which a program may load again: tpmctl flush -saved frees %s\n", cli.Counted(saved, "saved session"), them(saved))
	}
	return cmp.Or(text, "nothing was left behind\n")
}

// loaded is what other programs left in a TPM; nil if unknown.
type loaded []tpmkey.LoadedObject

// readLoaded reads what is loaded. Not every TPM can tell, for example one that is disabled.
func readLoaded(tpm *tpmkey.TPM) loaded {
	all, err := tpm.Loaded(context.Background())
	if err != nil {
		return nil
	}
	return append(loaded{}, all...)
}

func (l loaded) count() (keys, sessions, saved int) {
	for _, o := range l {
		switch {
		case o.Saved:
			saved++
		case o.Session:
			sessions++
		default:
			keys++
		}
	}
	return keys, sessions, saved
}

// rows returns what is loaded, with the command that frees it.
func (l loaded) rows() []row {
	if l == nil {
		return nil
	}
	var rows []row
	keys, sessions, saved := l.count()
	if n := keys + sessions; n > 0 {
		rows = append(rows, row{"left behind", countLoaded(keys, sessions) + ": tpmctl flush frees " + them(n)})
	}
	if saved > 0 {
		rows = append(rows, row{"saved", fmt.Sprintf("%s, which a program may load again: tpmctl flush -saved frees %s", cli.Counted(saved, "session"), them(saved))})
	}
	if rows == nil {
		rows = []row{{"loaded", "nothing"}}
	}
	return rows
}

// them returns the pronoun for n things.
func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// countLoaded returns text such as "2 keys and 1 session".
func countLoaded(keys, sessions int) string {
	switch {
	case sessions == 0:
		return cli.Counted(keys, "key")
	case keys == 0:
		return cli.Counted(sessions, "session")
	}
	return cli.Counted(keys, "key") + " and " + cli.Counted(sessions, "session")
}
