package sysfs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"maclef/internal/printable"
)

// Holders returns the processes that have a device open, as far as this user may see in
// /proc. Their names contain no control characters.
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

// scanLimit is how long Holders looks at the open files of all processes. Callers have
// waited for the TPM already.
const scanLimit = 300 * time.Millisecond

// hasOpen reports whether a process has a file open, by the links in /proc.
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

// program returns the name of a process without control characters; empty if unknown.
func (k Kernel) program(pid int) string {
	return printable.Line(readAttribute(k.path("proc", strconv.Itoa(pid), "comm")))
}
