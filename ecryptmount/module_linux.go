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

// Parameters of the kernel module when this program loads it: seconds to wait for an answer, and
// number of open requests. The kernel's defaults, 3 and 32, are too low for a slow chip.
const (
	waitSeconds = 60
	openBuffers = 256
)

// defaultWait is the kernel's default.
const defaultWait = 3 * time.Second

// A module is the kernel's module ecryptfs.
type module struct {
	wait  time.Duration // for an answer
	known bool          // this program or the system's configuration has set wait
}

// loadModule loads the kernel's module unless the kernel has eCryptfs.
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
		return nil, noModuleError("the module is loaded, but there is no such file system")
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

// modprobe loads the module, with a longer wait unless the system's configuration has one.
func (m *module) modprobe() error {
	args := []string{"ecryptfs", "ecryptfs_message_buf_len=" + strconv.Itoa(openBuffers)}
	if !m.known {
		args = append(args, "ecryptfs_message_wait_timeout="+strconv.Itoa(waitSeconds))
	}
	if out, err := runModprobe(args...); err != nil {
		return noModuleError(out)
	}
	if !m.known {
		m.wait, m.known = waitSeconds*time.Second, true
	}
	return nil
}

// reload loads the module again with a longer wait. That works only while nobody uses it.
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

// runModprobe returns the output of modprobe.
func runModprobe(args ...string) (string, error) {
	program := "modprobe"
	for _, path := range []string{"/sbin/modprobe", "/usr/sbin/modprobe"} {
		if _, err := os.Stat(path); err == nil {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // without the secrets of this process
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil && text == "" {
		text = err.Error()
	}
	return text, err
}

// noModuleError is the error for a kernel without eCryptfs.
func noModuleError(why string) error {
	var release string
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = " (" + strings.TrimSpace(string(b)) + ")"
	}
	return cli.WithHint(fmt.Errorf("this kernel%s has no eCryptfs: %s", release, why),
		"use a kernel with the module ecryptfs (CONFIG_ECRYPT_FS): Debian's linux-image-amd64 has it, Debian's cloud kernel does not; in a container, load it outside (modprobe ecryptfs)")
}

var (
	waitOption  = regexp.MustCompile(`(?m)^\s*options\s+ecryptfs\s.*\becryptfs_message_wait_timeout=(\d{1,6})\b`)
	waitCommand = regexp.MustCompile(`\becryptfs\.ecryptfs_message_wait_timeout=(\d{1,6})\b`)
)

// configuredWait returns the wait in seconds from the system's configuration, 0 if it has none. The
// module does not show its wait.
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

// moduleUsers returns the number of mounts and open devices that use the module, or -1 if eCryptfs
// is built into the kernel.
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

// tooSlow reports whether answers come too late when a few files are opened at once and each takes
// this long.
func (m *module) tooSlow(each time.Duration) bool { return 3*each > m.wait }

// advice says how to configure a longer wait.
func (m *module) advice(each time.Duration) string {
	seconds := max(waitSeconds, int(20*each/time.Second))
	cure := fmt.Sprintf("put the line \"options ecryptfs ecryptfs_message_wait_timeout=%d\" into /etc/modprobe.d/ecryptfs.conf, "+
		"then unmount all eCryptfs directories and run modprobe -r ecryptfs", seconds)
	if moduleUsers() < 0 && hasFileSystem() { // built into the kernel
		cure = fmt.Sprintf("add ecryptfs.ecryptfs_message_wait_timeout=%d to the kernel's command line, and start the system again", seconds)
	}
	return fmt.Sprintf("the TPM takes %.1f s to unwrap the key of a file, and the kernel gives up after %v if the module ecryptfs was loaded as usual: "+
		"files that are opened at the same time may fail with \"Input/output error\", and open when tried again; %s", each.Seconds(), m.wait, cure)
}
