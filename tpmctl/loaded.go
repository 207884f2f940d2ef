package main

import (
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// loaded is what others have left in a TPM; nil where that is not known.
type loaded []tpmkey.Occupant

// readLoaded asks a TPM what is loaded. Not each can be asked, such as one that is disabled.
func readLoaded(tpm *tpmkey.TPM) loaded {
	all, err := tpm.Loaded()
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

// rows say what is loaded, and what to do about it.
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
		rows = append(rows, row{"saved", cli.Counted(saved, "session") + " of programs that may not keep a secret: tpmctl flush -saved frees what killed ones left"})
	}
	if rows == nil {
		rows = []row{{"loaded", "nothing"}}
	}
	return rows
}

// them is the pronoun for n things.
func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// countLoaded is keys and sessions in words, such as "2 keys and 1 session".
func countLoaded(keys, sessions int) string {
	switch {
	case sessions == 0:
		return cli.Counted(keys, "key")
	case keys == 0:
		return cli.Counted(sessions, "session")
	}
	return cli.Counted(keys, "key") + " and " + cli.Counted(sessions, "session")
}
