package transport

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"maclef/internal/tpmtest"
)

func TestEmulatorStrangersDirectory(t *testing.T) {
	t.Parallel()
	p := startUser(t, "emulator:/", asNobody)
	p.want("open permission open TPM emulator:/: no permission: use a directory of your own (emulator:DIR): / belongs to the user ", p.answer())
}

// A directory into which others can put links and sockets.
func TestEmulatorWritableDirectory(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky, 0o770, 0o720, 0o702} {
		dir := stateDir(t)
		write(t, dir+"/keep", "", 0o600)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := openNow("emulator:" + dir)
		wantError(t, err, ErrPermission, "use a directory of your own", "others may write", "chmod go-w "+dir)
		if left, err := os.ReadDir(dir); len(left) != 1 {
			t.Error("it was used:", left, err)
		}
		if err := os.Chmod(dir, mode&^os.ModeSticky&^0o022); err != nil {
			t.Fatal(err)
		}
		if err := alive(mustOpen(t, "emulator:"+dir)); err != nil {
			t.Errorf("%o after the advice: %v", mode, err)
		}
	}
}

// A link to a directory counts for what it leads to.
func TestEmulatorLinkedDirectory(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	write(t, dir+"/keep", "", 0o600)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, "emulator:"+link)
	if err := alive(d); err != nil {
		t.Error(err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := alive(d); err != nil {
		t.Error("the link was followed again:", err)
	}
	d.Close()
	if err := errors.Join(os.Symlink("/", link), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	p := startUser(t, "emulator:"+link, asNobody)
	p.want("open permission", p.answer())
}

// Nothing that the caller has open goes to the programs of the emulator, which
// outlive it.
func TestEmulatorInheritsNothing(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	secret, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	dir := stateDir(t)
	p := startUser(t, "emulator:"+dir, func(c *exec.Cmd) {
		c.ExtraFiles = make([]*os.File, 249)
		c.ExtraFiles[0], c.ExtraFiles[4], c.ExtraFiles[248] = secret, secret, secret // 3, 7 and 251
	})
	p.want("open ok", p.answer())
	programs := map[string]int{"the caller": p.cmd.Process.Pid}
	for _, program := range []string{"sh", "flock", "swtpm"} {
		programs[program] = pidOf(t, dir, program)
	}
	for program, pid := range programs {
		for _, fd := range []int{3, 7, 251} {
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
			if has := target == os.DevNull; has != (program == "the caller") {
				t.Errorf("%s has %d: %v (%s)", program, fd, has, target)
			}
		}
	}
}
