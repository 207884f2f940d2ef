package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// whoHolds says which process has a device open, as far as /proc tells this
// user, and how to get rid of it.
func whoHolds(name string) string {
	pid, program := holder("/proc", name)
	return holderText(name, pid, program)
}

func holderText(name, pid, program string) string {
	switch {
	case pid == "":
		return "another program has it open: find it with \"sudo fuser -v " + name + "\", stop it and try again"
	case program == "tcsd":
		return fmt.Sprintf("tcsd (process %s) has it open: stop it with \"systemctl stop trousers\" and try again", pid)
	}
	return fmt.Sprintf("%s (process %s) has it open: stop it or wait, and try again", program, pid)
}

// holder finds a process that has a file open, by the links under proc.
func holder(proc, name string) (pid, program string) {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return "", ""
	}
	links, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return "", ""
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == name {
			dir := filepath.Dir(filepath.Dir(link))
			comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return filepath.Base(dir), strings.TrimSpace(string(comm))
		}
	}
	return "", ""
}
