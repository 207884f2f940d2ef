package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
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
	switch program {
	case "tcsd":
		return fmt.Sprintf("tcsd (process %d) has it open: stop it with \"systemctl stop trousers\" and try again", pid)
	case "tpm2-abrmd":
		return fmt.Sprintf("tpm2-abrmd (process %d) has it open: use the kernel's resource manager (/dev/tpmrm0), "+
			"or stop it with \"systemctl stop tpm2-abrmd\" and try again", pid)
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
	deadline := time.Now().Add(scanLimit)
	dirs, _ := os.ReadDir(k.path("proc"))
	var found []Process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err == nil && pid > 0 && k.hasOpen(pid, name, deadline) {
			found = append(found, Process{PID: pid, Name: k.program(pid)})
		}
	}
	return found
}

// scanLimit is how long the open files of all processes are looked at: a wait that is
// over is not to last much longer.
const scanLimit = 300 * time.Millisecond

// hasOpen reports whether a process has a file open, which the link under /proc names.
func (k Kernel) hasOpen(pid int, name string, deadline time.Time) bool {
	path := k.path("proc", strconv.Itoa(pid), "fd")
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	for time.Now().Before(deadline) {
		files, err := dir.Readdirnames(1024)
		if slices.ContainsFunc(files, func(file string) bool {
			target, err := os.Readlink(filepath.Join(path, file))
			return err == nil && target == name
		}) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// program is what a process calls itself, without control characters, empty if
// unknown.
func (k Kernel) program(pid int) string {
	return harmless(readAttribute(k.path("proc", strconv.Itoa(pid), "comm")))
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
