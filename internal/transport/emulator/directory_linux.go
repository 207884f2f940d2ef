package emulator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"maclef/internal/newfile"
	"maclef/internal/sysfs"
)

// Directory returns the absolute path of an emulator's directory. An empty dir means the
// user's default directory: XDG Base Directory Specification, $XDG_STATE_HOME.
func (m *Model) Directory(dir string) (string, error) {
	if dir == "" {
		state := os.Getenv("XDG_STATE_HOME")
		if home := os.Getenv("HOME"); !filepath.IsAbs(state) {
			if home == "" {
				return "", fmt.Errorf("no directory for its state: $HOME is not set; name a directory with %s:DIR", m.Form)
			}
			state = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(state, "maclef", m.base)
	}
	return filepath.Abs(dir)
}

// plainFiles lists the files of the emulator and swtpm in the directory, except two
// sockets.
func (m *Model) plainFiles() []string {
	files := []string{"users.lock", "start.lock", "swtpm.lock", markerFile, logFile, ".lock"}
	for _, stem := range []string{m.stem, strings.Replace(m.stem, "tpm", "TMP", 1)} {
		files = append(files, stem+".permall", stem+".volatilestate", stem+".savestate")
	}
	return files
}

// checkModel returns an error if a directory holds a TPM of the other generation.
func (m *Model) checkModel(dir string) error {
	for _, other := range models {
		if _, err := os.Lstat(filepath.Join(dir, other.stateFile())); other == m || err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, m.stateFile())); err == nil {
			return fmt.Errorf("it holds a %v and a %v: move %s or %s into another directory", m, other, m.stateFile(), other.stateFile())
		}
		return fmt.Errorf("it holds a %v: use %s:%s, or another directory", other, other.Form, dir)
	}
	return nil
}

// An ownershipError says why other users could change the files of a directory.
type ownershipError string

func (e ownershipError) Error() string { return string(e) }

func (e ownershipError) Is(target error) bool { return target == os.ErrPermission }

// makeStateDir makes the directory. It returns an error if another user can write to it, or
// owns a file in it. It returns the path without symbolic links.
func (m *Model) makeStateDir(dir string) (string, error) {
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
	if err := m.checkModel(real); err != nil {
		return real, err
	}
	for _, base := range m.plainFiles() {
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
		return ownershipError(fmt.Sprintf("others may write to %s (mode %04o); if all that is in it is yours, \"chmod go-w %s\"", dir, mode, dir))
	}
	return nil
}

// checkEntry checks the kind and owner of a file, if it exists, without opening it.
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
		return fmt.Errorf("%s is %s, it must be %s: remove it, or use another directory", path, sysfs.FileKind(got), sysfs.FileKind(kind))
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
	return ownershipError(fmt.Sprintf("%s belongs to the user %s", path, owner))
}

// openFile opens a file in the directory. It refuses links and pipes.
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

// CheckWritable writes as many bytes as a TPM's state has. A full disk stops swtpm, and has
// no room for swtpm's message either.
func (e *Emulator) CheckWritable() error {
	f, err := newfile.Create(e.dir+"/", 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	_, err = f.Write(make([]byte, 8<<10))
	return err
}

// openLock opens a lock file, and makes it if it does not exist. A lock belongs to the open
// file, so two locks exclude each other also within one process. The kernel releases it
// when the process ends in any way.
func openLock(dir, base string) (*os.File, error) {
	return openFile(filepath.Join(dir, base), os.O_RDWR|os.O_CREATE)
}

// lock takes a lock (syscall.LOCK_SH or LOCK_EX), or returns ErrLocked after limit. It
// polls, because a wait in the kernel has no time limit.
func lock(f *os.File, how int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		err := flock(f, how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err == syscall.EINTR:
			continue
		case err != syscall.EWOULDBLOCK:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case time.Now().After(deadline):
			return ErrLocked
		}
		time.Sleep(pause)
	}
}

// flock locks a file. SyscallConn keeps the descriptor from being closed and reused
// meanwhile.
func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), how) }); err != nil {
		return err
	}
	return locked
}
