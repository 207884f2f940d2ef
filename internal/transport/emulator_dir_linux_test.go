package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEmulatorStrangersDirectory(t *testing.T) {
	p := startUser(t, "emulator:/", asNobody)
	p.want("open permission open TPM emulator:/: no permission: use a directory of your own (emulator:DIR): / belongs to the user ", p.answer())
}

// A directory into which others can put links and sockets.
func TestEmulatorWritableDirectory(t *testing.T) {
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

// planted puts something in the place of a file in a new directory.
func planted(t *testing.T, base string, plant func(path string) error) (dir string) {
	t.Helper()
	dir = stateDir(t)
	write(t, dir+"/keep", "", 0o600)
	if err := plant(filepath.Join(dir, base)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// soon fails the test instead of letting it hang at a pipe.
func soon(t *testing.T, f func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it hangs")
		return nil
	}
}

// wantPlain checks that a file is refused, and for which reason.
func wantPlain(t *testing.T, err error, path, reason string) {
	t.Helper()
	if err == nil || kind(err) != "other" || !strings.Contains(err.Error(), path+" is "+reason+": remove it, or use another directory") {
		t.Errorf("got %v, want %s to be %s", err, path, reason)
	}
}

// Whatever came with the directory, out of an archive perhaps: no other file is
// changed, and nothing is waited for.
func TestEmulatorPlantedFiles(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	write(t, victim, "precious", 0o640)
	for what, plant := range map[string]func(string) error{
		"a symbolic link, it must be a file": func(p string) error { return os.Symlink(victim, p) },
		"a pipe, it must be a file":          func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"a directory, it must be a file":     func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		for _, m := range models {
			for _, base := range m.plainFiles() {
				dir := planted(t, base, plant)
				err := soon(t, func() error { _, err := openNow(m.form + ":" + dir); return err })
				wantPlain(t, err, filepath.Join(dir, base), what)
			}
		}
	}
	info, err := os.Stat(victim)
	text, _ := os.ReadFile(victim)
	if err != nil || string(text) != "precious" || info.Mode().Perm() != 0o640 {
		t.Errorf("the victim: %q %v %v", text, info.Mode(), err)
	}
}

func TestEmulatorPlantedSocket(t *testing.T) {
	listener := filepath.Join(t.TempDir(), "l")
	asked := make(chan bool, 9)
	peer(t, "unix", listener, func(c net.Conn) { asked <- true; answering(good, good)(c) })
	for _, base := range []string{dataSocket, controlSocket} {
		dir := planted(t, base, func(p string) error { return os.Symlink(listener, p) })
		_, err := openNow("emulator:" + dir)
		wantPlain(t, err, filepath.Join(dir, base), "a symbolic link, it must be a socket")
	}
	if len(asked) != 0 {
		t.Error("the listener was asked")
	}
}

// What is put there after the check.
func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/victim", "precious", 0o600)
	err := errors.Join(os.Symlink("victim", dir+"/link"), os.Symlink("none", dir+"/dangling"), syscall.Mkfifo(dir+"/pipe", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for base, what := range map[string]string{"link": "a symbolic link", "dangling": "a symbolic link", "pipe": "a pipe"} {
		for _, flags := range []int{os.O_RDONLY, os.O_WRONLY | os.O_CREATE, os.O_RDWR | os.O_CREATE} {
			path := filepath.Join(dir, base)
			err := soon(t, func() error { _, err := openFile(path, flags); return err })
			wantPlain(t, err, path, what+", it must be a file")
		}
	}
	if _, err := os.Lstat(dir + "/none"); err == nil {
		t.Error("made a file through a link")
	}
}

// root is refused what ordinary users could have prepared for it.
func TestEmulatorOfOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		cannot(t, "only root can give files to another user; TestEmulatorStrangersDirectory is for all")
	}
	for _, base := range append([]string{".", dataSocket}, modelOf("emulator").plainFiles()...) {
		dir := planted(t, base, func(p string) error {
			switch filepath.Base(p) {
			case "state":
			case dataSocket:
				peer(t, "unix", p, answering(good, good))
			default:
				write(t, p, "", 0o600)
			}
			return os.Chown(p, 65534, 65534)
		})
		_, err := openNow("emulator:" + dir)
		wantError(t, err, ErrPermission, filepath.Join(dir, base)+" belongs to the user ")
	}
}

// Nothing that the caller has open goes to the programs of the emulator, which
// outlive it.
func TestEmulatorInheritsNothing(t *testing.T) {
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
