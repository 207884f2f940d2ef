package transport

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// write makes a file, and the directories above it.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestEmulatorProgramsMissing(t *testing.T) {
	dir := stateDir(t)
	t.Setenv("PATH", "")
	_, err := openNow("emulator:" + dir)
	wantError(t, err, ErrNoSWTPM, "apt-get install swtpm")
	bin := t.TempDir()
	write(t, bin+"/swtpm", "#!/bin/sh\n", 0o755)
	write(t, bin+"/sh", "#!/bin/sh\n", 0o755)
	t.Setenv("PATH", bin)
	_, err = openNow("emulator:" + dir)
	if kind(err) != "other" || !strings.Contains(err.Error(), "program flock") {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("left a directory")
	}
}

// Without setpriv only the watcher's own end goes unnoticed.
func TestEmulatorWithoutSetpriv(t *testing.T) {
	bin := t.TempDir()
	for _, program := range []string{"sh", "swtpm", "flock", "grep", "sleep"} {
		path, err := exec.LookPath(program)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, program))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	dir := stateDir(t)
	d := mustOpen(t, "emulator:"+dir)
	if err := errors.Join(alive(d), d.Close()); err != nil {
		t.Error(err)
	}
	emptied(t, dir)
}

// A swtpm that fails, or hangs, is reported with its last words.
func TestEmulatorDoesNotStart(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	o := impatient()
	o.timeouts.start = time.Second
	for script, want := range map[string]string{ // script: error
		"echo no luck today >&2; exit 3": "start swtpm: it ended at once: no luck today",
		"exit 3":                         "ended at once: it left no message",
		"exec sleep 100":                 "start swtpm: no answer within 1s",
	} {
		write(t, bin+"/swtpm", "#!/bin/sh\n"+script+"\n", 0o755)
		dir := stateDir(t)
		_, err := tryOpen(o, "emulator:"+dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
		emptied(t, dir)
	}
}

func TestEmulatorBadDirectory(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	write(t, dir+"/file", "text", 0o600)
	write(t, dir+"/20/tpm2-00.permall", "", 0o600)
	write(t, dir+"/damaged/tpm-00.permall", "this is no state", 0o600)
	for name, want := range map[string]string{
		"file":    "must be a directory",
		"file/in": "must be a directory",
		"20":      "TPM 2.0",
		"damaged": "start swtpm: it ended at once",
	} {
		path := filepath.Join(dir, name)
		_, err := openNow("emulator:" + path)
		if kind(err) != "other" || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		emptied(t, path)
	}
	if text, err := os.ReadFile(dir + "/damaged/tpm-00.permall"); string(text) != "this is no state" {
		t.Error("the damaged state was replaced", err)
	}
}

func TestEmulatorDirectoryInUse(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	s := tpmtest.Start(t, tpmtest.Tutorial)
	if err := os.Rename(s.Dir+"/sock", s.Dir+"/moved"); err != nil {
		t.Fatal(err)
	}
	_, err := openNow("emulator:" + s.Dir)
	wantError(t, err, ErrBusy, "another swtpm")
	if err := alive(mustOpen(t, "unix:"+s.Dir+"/moved")); err != nil {
		t.Error("the one who was first:", err)
	}
}

func TestEmulatorPermission(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := publicDir(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/new"} {
		p := startUser(t, "emulator:"+name, asNobody)
		p.want("open permission open TPM emulator:"+name+": no permission: use a directory of your own", p.answer())
	}
}

// startOnSmallDisk runs a user of an emulator whose directory is a file system of 64 KiB, mounted
// where only this process sees it. It returns the path of the directory for others.
func startOnSmallDisk(t *testing.T, form, script string) (p *process, dir string) {
	t.Helper()
	dir = t.TempDir()
	apart := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	try := func() (string, error) {
		mount := exec.Command("mount", "-t", "tmpfs", "tmpfs", dir)
		mount.SysProcAttr = apart
		out, err := mount.CombinedOutput()
		return string(out), err
	}
	out, err := try()
	if err != nil { // in a chroot there are no user namespaces, and root needs none
		apart = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		out, err = try()
	}
	if err != nil {
		tpmtest.Cannot(t, "this machine lets this user mount nothing in a namespace, so there is no full disk: %v %s", err, out)
	}
	p = startUser(t, "", func(c *exec.Cmd) {
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", `mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" || exit
			` + script + `
			exec "$1" user "$2:$0"`, dir, os.Args[0], form}
		c.SysProcAttr = apart
	})
	return p, fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir)
}

func TestEmulatorDiskFull(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	p, _ := startOnSmallDisk(t, "emulator", `head -c 65536 /dev/zero >"$0/ballast"`)
	if got := p.answer(); !strings.HasPrefix(got, "open other") || !strings.Contains(got, "no space left on device") {
		t.Error(got)
	}
}

// A TPM that could not write its state works again as soon as there is room, although a user has
// it open all the time.
func TestEmulatorDiskFullForATime(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for form, commands := range map[string]struct{ write, read string }{
		"emulator":  {"00c10000000a00000098", "00c10000000a000000f1"},     // TPM_SaveState, TPM_GetTicks
		"emulator2": {"80010000000c000001450000", "80010000000a00000181"}, // TPM2_Shutdown, TPM2_ReadClock
	} {
		t.Run(form, func(t *testing.T) {
			p, dir := startOnSmallDisk(t, form, "")
			p.want("open ok", p.answer())
			p.want("done ok", p.ask("hex "+commands.read))
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 1<<17), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			p.want("done other result code", p.ask("hex "+commands.write))
			if got := p.ask("hex " + commands.read); !strings.Contains(got, "make room or use another directory") || !strings.Contains(got, "no space left on device") {
				t.Errorf("while it is full: %s", got)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			p.want("done ok", p.ask("hex "+commands.read))
			p.want("done ok", p.ask("hex "+commands.write))
		})
	}
}
