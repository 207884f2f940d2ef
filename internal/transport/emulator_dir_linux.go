package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// emulatorDir names the directory of the emulator, absolute. An empty dir means
// the user's own: XDG Base Directory Specification, $XDG_STATE_HOME.
func emulatorDir(dir string) (string, error) {
	if dir == "" {
		state := os.Getenv("XDG_STATE_HOME")
		if home := os.Getenv("HOME"); !filepath.IsAbs(state) {
			if home == "" {
				return "", errors.New("where to keep its state? $HOME is not set: name a directory with emulator:DIR")
			}
			state = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(state, "maclef", "tpm12")
	}
	return filepath.Abs(dir)
}

// plainFiles are what the emulator and swtpm have in the directory besides two
// sockets.
var plainFiles = []string{
	"users.lock", "start.lock", "swtpm.lock", markerFile, logFile,
	".lock", stateFile, "tpm-00.volatilestate", "tpm-00.savestate",
	"TMP-00.permall", "TMP-00.volatilestate", "TMP-00.savestate",
}

// notOwnError is why others could use a directory to harm this user.
type notOwnError string

func (e notOwnError) Error() string { return string(e) }

func (e notOwnError) Is(target error) bool { return target == os.ErrPermission }

// makeStateDir makes the directory, and sees that nobody else can put anything
// into it, nor has before. It returns its path without symbolic links.
func makeStateDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dir, err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return dir, err
	}
	if err := checkDir(real); err != nil {
		return real, err
	}
	if _, err := os.Lstat(filepath.Join(real, state20File)); err == nil {
		return real, errors.New("the directory holds the state of a TPM 2.0, this is a TPM 1.2: name another one with emulator:DIR")
	}
	for _, base := range plainFiles {
		if err := checkEntry(filepath.Join(real, base), 0); err != nil {
			return real, err
		}
	}
	for _, base := range []string{dataSocket, controlSocket} {
		if err := checkEntry(filepath.Join(real, base), fs.ModeSocket); err != nil {
			return real, err
		}
	}
	return real, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := checkOwner(dir, info); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return notOwnError(fmt.Sprintf("others may write to %s (mode %04o); if all that is in it is yours, \"chmod go-w %s\"", dir, mode, dir))
	}
	return nil
}

// checkEntry checks what is under a path, if anything, without opening it.
func checkEntry(path string, kind fs.FileMode) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return checkKind(path, info, kind)
}

func checkKind(path string, info fs.FileInfo, kind fs.FileMode) error {
	if got := info.Mode(); got.Type() != kind {
		return fmt.Errorf("%s is %s, it must be %s: remove it, or use another directory (emulator:DIR)", path, kindOf(got), kindOf(kind))
	}
	return checkOwner(path, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int64(stat.Uid) == int64(os.Geteuid()) {
		return nil
	}
	owner := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return notOwnError(fmt.Sprintf("%s belongs to the user %s", path, owner))
}

// openFile opens a file in the directory, and no link or pipe in its place.
func openFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		if clearer := checkEntry(path, 0); clearer != nil {
			err = clearer
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkKind(path, info, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tryWriting writes as much as a TPM's state: a disk without room has none for
// swtpm's message either.
func (e *emulator) tryWriting() error {
	f, err := os.CreateTemp(e.path, "try-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 8<<10))
	return errors.Join(err, f.Close())
}
