package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// whoHolds says which process has a device open, as far as /proc tells this
// user, and how to get rid of it.
func whoHolds(name string) string { return holderText(name, Kernel{}.Holders(name)) }

func holderText(name string, holders []Process) string {
	if len(holders) == 0 {
		return "another program has it open: find it with \"sudo fuser -v " + name + "\", stop it and try again"
	}
	pid, program := holders[0].PID, holders[0].Name
	if program == "tcsd" {
		return fmt.Sprintf("tcsd (process %d) has it open: stop it with \"systemctl stop trousers\" and try again", pid)
	}
	return fmt.Sprintf("%s (process %d) has it open: stop it or wait, and try again", program, pid)
}

// Holders returns the processes that have a device open, as far as this user may
// see, by the links under /proc. Their names have no control characters.
func (k Kernel) Holders(name string) []Process {
	if real, err := filepath.EvalSymlinks(k.path(name)); err == nil {
		name = strings.TrimPrefix(real, filepath.Clean(k.Root))
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob(k.path("proc/[0-9]*/fd/*"))
	var holders []Process
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != name {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(dir))
		known := func(p Process) bool { return p.PID == pid }
		if err != nil || slices.ContainsFunc(holders, known) {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		holders = append(holders, Process{PID: pid, Name: harmless(strings.TrimSpace(string(comm)))})
	}
	return holders
}

// harmless is a name that a program gave itself, for messages: what a terminal
// would obey becomes its escape.
func harmless(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
