package main

import (
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func flush(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "It frees the keys and authorization sessions that are loaded in a bare TPM (/dev/tpm0, a software TPM) while nobody else has it " +
		"open: programs of this project leave none behind unless they are killed, and other programs' keys are lost with it, too. Behind the " +
		"kernel's resource manager (/dev/tpmrm0) there is nothing to free.\n\nSaved sessions belong to programs that were given a secret and may " +
		"not keep it; with -saved they are freed, and who misses one asks for the secret again."
	fs.Example = "tpmctl flush\ntpmctl flush -saved"
	which := fs.TPM()
	saved := fs.Bool("saved", "free saved sessions, too")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	var keys, sessions int
	var left loaded
	err := env.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		if keys, sessions, err = tpm.FlushLeftovers(*saved); err == nil {
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
	text := "nothing was left behind\n"
	if keys+sessions > 0 {
		text = fmt.Sprintf("freed %s\n", countLoaded(keys, sessions))
	}
	keys, sessions, saved := left.count()
	if keys+sessions > 0 { // the owner's, or of a moment ago
		text += fmt.Sprintf("still there: %s\n", countLoaded(keys, sessions))
	}
	if saved > 0 {
		whose := "programs that may bring them"
		if saved == 1 {
			whose = "a program that may bring it"
		}
		text += fmt.Sprintf("left %s of %s back: tpmctl flush -saved frees %s\n", cli.Counted(saved, "saved session"), whose, them(saved))
	}
	return text
}
