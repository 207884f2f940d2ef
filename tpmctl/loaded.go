package main

import (
	"fmt"
	"slices"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// loaded is what is in a TPM now; nil where that is not known.
type loaded []tpmkey.Occupant

// readLoaded asks a TPM what is loaded. Not each can be asked: a TPM 2.0, one that is
// disabled, one that other machines use.
func readLoaded(tpm *tpmkey.TPM) loaded {
	all, err := tpm.Loaded()
	if err != nil {
		return nil
	}
	return append(loaded{}, all...)
}

// share is what one program has loaded, or what nobody claims.
type share struct {
	pid            int // 0 for nobody
	program        string
	keys, sessions int
}

// byOwner sums up what is loaded, by process number, nobody's first.
func (l loaded) byOwner() []share {
	var owners []share
	for _, o := range l {
		i := slices.IndexFunc(owners, func(of share) bool { return of.pid == o.PID })
		if i < 0 {
			i = len(owners)
			owners = append(owners, share{pid: o.PID, program: o.Program})
		}
		if o.Session {
			owners[i].sessions++
		} else {
			owners[i].keys++
		}
	}
	slices.SortFunc(owners, func(a, b share) int { return a.pid - b.pid })
	return owners
}

// rows say what is loaded, one for each program, and what was left behind.
func (l loaded) rows() []row {
	if l == nil {
		return nil
	}
	var rows []row
	for _, of := range l.byOwner() {
		if of.pid == 0 {
			rows = append(rows, row{"left behind", of.leftText()})
			continue
		}
		rows = append(rows, row{"loaded", of.what() + " of " + of.who()})
	}
	if rows == nil {
		rows = []row{{"loaded", "nothing"}}
	}
	return rows
}

// leftText says what to do about what nobody has loaded.
func (of share) leftText() string {
	cure := "tpmctl flush frees them"
	if of.keys+of.sessions == 1 {
		cure = "tpmctl flush frees it"
	}
	return of.what() + " by killed programs, or of ones that do not tell: " + cure
}

func (of share) what() string { return countLoaded(of.keys, of.sessions) }

func (of share) who() string { return fmt.Sprintf("%s (process %d)", orSomebody(of.program), of.pid) }

// orSomebody names a program that /proc does not show to this user.
func orSomebody(program string) string {
	if program == "" {
		return "a program"
	}
	return program
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
