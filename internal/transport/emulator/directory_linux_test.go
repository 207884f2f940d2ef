package emulator

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// notReached is for an emulator whose swtpm must not be started.
var notReached = Options{
	Start:     10 * time.Second,
	Ask:       func(string, []byte, time.Duration) error { panic("swtpm was asked") },
	Listening: func(string) error { panic("swtpm was looked for") },
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// planted puts something in the place of a file in a new directory.
func planted(t *testing.T, base string, plant func(path string) error) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
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

// wantPlain checks that a file is refused, for which reason, and with an error of no kind.
func wantPlain(t *testing.T, err error, path, reason string) {
	t.Helper()
	if err == nil || errors.Is(err, os.ErrPermission) || errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path+" is "+reason+": remove it, or use another directory") {
		t.Errorf("got %v, want %s to be %s", err, path, reason)
	}
}

// Open refuses links, pipes and directories in place of its files, which may come with the
// directory out of an archive. It changes no other file, and waits for nothing.
func TestPlantedFiles(t *testing.T) {
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
				err := soon(t, func() error { _, err := Open(m, dir, notReached); return err })
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

func TestPlantedSocket(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "l")
	for _, base := range []string{dataSocket, controlSocket} {
		dir := planted(t, base, func(p string) error { return os.Symlink(elsewhere, p) })
		_, err := Open(models[0], dir, notReached)
		wantPlain(t, err, filepath.Join(dir, base), "a symbolic link, it must be a socket")
	}
}

// openFile refuses links and pipes that are put in a directory after Open has checked it.
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
func TestDirectoryOfOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		tpmtest.Cannot(t, "only root can give files to another user; TestEmulatorStrangersDirectory is for all")
	}
	for _, base := range append([]string{".", dataSocket}, models[0].plainFiles()...) {
		dir := planted(t, base, func(p string) error {
			switch filepath.Base(p) {
			case "state":
			case dataSocket:
				l, err := net.Listen("unix", p)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
			default:
				write(t, p, "", 0o600)
			}
			return os.Chown(p, 65534, 65534)
		})
		_, err := Open(models[0], dir, notReached)
		tpmtest.WantError(t, err, os.ErrPermission, filepath.Join(dir, base)+" belongs to the user ")
	}
}
