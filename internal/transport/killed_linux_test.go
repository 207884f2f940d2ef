package transport

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"maclef/internal/tpmtest"
)

// A swtpm that is killed while it starts is started again.
func TestEmulatorKilledAtItsStart(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	d := mustOpen(t, "emulator2:"+dir)
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for seen := map[int]bool{}; len(seen) < 4; {
			if pid := findPid(dir, "swtpm"); pid > 0 && !seen[pid] {
				seen[pid] = true
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}()
	for done := false; !done; {
		select {
		case <-killed:
			done = true
		default:
		}
		// One that is killed in the middle of a command is the caller's business.
		if _, err := d.Send(probeCommand); err != nil && strings.Contains(err.Error(), "start") {
			t.Error(err)
		}
	}
}

func findPid(dir, program string) int {
	found, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range found {
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if cwd, err := os.Readlink(link); err == nil && cwd == dir && strings.TrimSpace(string(comm)) == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			return pid
		}
	}
	return 0
}
