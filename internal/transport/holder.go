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
	return k.openers(func(_ int, target string) bool { return target == name })
}

// scanLimit is how long the open files of all processes are looked at.
const scanLimit = 5 * time.Second

// openers returns the processes that have an open file which is wanted, as far
// as this user may see and time allows; target is what the file's link under
// /proc says: a path, "socket:[<inode>]".
func (k Kernel) openers(wanted func(pid int, target string) bool) []Process {
	deadline := time.Now().Add(scanLimit)
	dirs, _ := os.ReadDir(k.path("proc"))
	var found []Process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || pid <= 0 {
			continue
		}
		if time.Now().After(deadline) {
			break
		}
		if k.anyFile(pid, deadline, wanted) {
			found = append(found, Process{PID: pid, Name: k.program(pid)})
		}
	}
	return found
}

// anyFile reports whether a process has an open file that is wanted.
func (k Kernel) anyFile(pid int, deadline time.Time, wanted func(pid int, target string) bool) bool {
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
			return err == nil && wanted(pid, target)
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
