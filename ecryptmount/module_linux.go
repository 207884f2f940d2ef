package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// How the kernel's module is loaded where it is not yet: it waits so many seconds
// for an answer, and has so many requests open. Its own defaults, 3 and 32, are too
// few for a slow chip.
const (
	waitSeconds = 60
	openBuffers = 256
)

// defaultWait is how long the module waits if nobody told it otherwise.
const defaultWait = 3 * time.Second

// A module is the kernel's eCryptfs.
type module struct {
	wait  time.Duration // how long it waits for an answer
	known bool          // whether somebody told it that, this program or the system's configuration
}

// loadModule sees to it that the kernel has eCryptfs.
func loadModule() (*module, error) {
	m := &module{wait: defaultWait}
	if n := configuredWait(); n > 0 {
		m.wait, m.known = time.Duration(n)*time.Second, true
	}
	if !hasFileSystem() {
		if err := m.modprobe(); err != nil {
			return nil, err
		}
	}
	if !hasFileSystem() {
		return nil, noModule("the module is loaded, but there is no such file system")
	}
	if _, err := os.Stat(ecryptfs.DevicePath); err != nil {
		return nil, cli.WithHint(fmt.Errorf("this kernel's eCryptfs has no %s, which keys in a TPM need", ecryptfs.DevicePath),
			"use a kernel that was built with CONFIG_ECRYPT_FS_MESSAGING")
	}
	return m, nil
}

func hasFileSystem() bool {
	list, err := os.ReadFile("/proc/filesystems")
	return err == nil && regexp.MustCompile(`(?m)^(nodev)?\s+ecryptfs$`).Match(list)
}

// modprobe loads the module, with a wait that suits a TPM unless the system's
// configuration has one.
func (m *module) modprobe() error {
	args := []string{"ecryptfs", "ecryptfs_message_buf_len=" + strconv.Itoa(openBuffers)}
	if !m.known {
		args = append(args, "ecryptfs_message_wait_timeout="+strconv.Itoa(waitSeconds))
	}
	if out, err := runModprobe(args...); err != nil {
		return noModule(out)
	}
	if !m.known {
		m.wait, m.known = waitSeconds*time.Second, true
	}
	return nil
}

// reload loads the module anew with a longer wait, which works while nobody uses
// it.
func (m *module) reload() error {
	if moduleUsers() != 0 {
		return errors.New("it is in use")
	}
	if out, err := runModprobe("-r", "ecryptfs"); err != nil {
		return errors.New(out)
	}
	m.known = false
	return m.modprobe()
}

// runModprobe returns what modprobe said.
func runModprobe(args ...string) (string, error) {
	program := "modprobe"
	for _, path := range []string{"/sbin/modprobe", "/usr/sbin/modprobe"} {
		if _, err := os.Stat(path); err == nil {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // not the secrets that this process may have there
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil && text == "" {
		text = err.Error()
	}
	return text, err
}

// noModule is the error for a kernel without eCryptfs.
func noModule(why string) error {
	var release string
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = " (" + strings.TrimSpace(string(b)) + ")"
	}
	return cli.WithHint(fmt.Errorf("this kernel%s has no eCryptfs: %s", release, why),
		"use a kernel with the module ecryptfs (CONFIG_ECRYPT_FS): Debian's linux-image-amd64 has it, Debian's cloud kernel has not; in a container, load it outside (modprobe ecryptfs)")
}

var (
	waitOption  = regexp.MustCompile(`(?m)^\s*options\s+ecryptfs\s.*\becryptfs_message_wait_timeout=(\d{1,6})\b`)
	waitCommand = regexp.MustCompile(`\becryptfs\.ecryptfs_message_wait_timeout=(\d{1,6})\b`)
)

// configuredWait is the wait that the system's configuration gives the module, 0
// where it gives none. The module does not show it.
func configuredWait() int {
	seconds := 0
	look := func(path string, pattern *regexp.Regexp) {
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		if found := pattern.FindSubmatch(text); found != nil {
			seconds, _ = strconv.Atoi(string(found[1]))
		}
	}
	for _, dir := range []string{"/usr/lib/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d", "/etc/modprobe.d"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
		for _, file := range files {
			look(file, waitOption)
		}
	}
	look("/proc/cmdline", waitCommand)
	return seconds
}

// moduleUsers is how many mounts and open devices the module has, -1 where that
// cannot be known (it is built into the kernel).
func moduleUsers() int {
	text, err := os.ReadFile("/sys/module/ecryptfs/refcnt")
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return n
}

// tooSlow reports whether answers that take so long each come too late for the
// kernel when a few files are opened at a time.
func (m *module) tooSlow(each time.Duration) bool { return 3*each > m.wait }

// advice is what to do about a wait that is too short.
func (m *module) advice(each time.Duration) string {
	seconds := max(waitSeconds, int(20*each/time.Second))
	cure := fmt.Sprintf("put the line \"options ecryptfs ecryptfs_message_wait_timeout=%d\" into /etc/modprobe.d/ecryptfs.conf, "+
		"then unmount all eCryptfs directories and run modprobe -r ecryptfs", seconds)
	if moduleUsers() < 0 && hasFileSystem() { // it is no module
		cure = fmt.Sprintf("add ecryptfs.ecryptfs_message_wait_timeout=%d to the kernel's command line, and start the system again", seconds)
	}
	return fmt.Sprintf("the TPM takes %.1f s to unwrap the key of a file, and the kernel gives up after %v if the module ecryptfs was loaded as usual: "+
		"files that are opened at the same time may fail with \"Input/output error\", and open when tried again; %s", each.Seconds(), m.wait, cure)
}
