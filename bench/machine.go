//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"maclef/tpmkey"
)

// machine names the machine.
func machine() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", processor(), runtime.NumCPU(), kernelRelease(), runtime.Version())
}

// chip names the TPM.
func (b *bench) chip() (string, error) {
	tpm, err := tpmkey.Open(b.tpm.name())
	if err != nil {
		return "", err
	}
	defer tpm.Close()
	status, err := tpm.Status()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%v, %d key slots: %s, %s.\n", status, status.MaxKeys, swtpmVersion(), b.libtpmsVersion()), nil
}

// processor is what /proc/cpuinfo calls the first one.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// load says how much other programs do, where that spoils what is measured.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	var busy float64
	if fmt.Sscan(string(text), &busy); busy < 0.5 {
		return ""
	}
	return fmt.Sprintf("bench: other programs keep this machine busy (load %.1f): numbers will be poor\n", busy)
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+`)

func swtpmVersion() string {
	out, _ := exec.Command("swtpm", "--version").Output()
	return "swtpm " + versionNumber.FindString(string(out))
}

// libtpmsVersion is in the name of the library that swtpm has mapped.
func (b *bench) libtpmsVersion() string {
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", b.tpm.pid()))
	for line := range strings.Lines(string(maps)) {
		if name := filepath.Base(strings.TrimSpace(line)); strings.HasPrefix(name, "libtpms.so") {
			return "libtpms " + versionNumber.FindString(name)
		}
	}
	return "libtpms of unknown version"
}
