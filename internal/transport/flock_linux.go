package transport

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// errLocked is the outcome of a wait for a lock that others did not give up.
var errLocked = errors.New("locked by others")

// openLock opens a lock file, making it if need be. Locks belong to the open
// file: two of them exclude each other within one process, too, and the kernel
// drops them with the process, however it ends.
func openLock(dir, base string) (*os.File, error) {
	return openFile(filepath.Join(dir, base), os.O_RDWR|os.O_CREATE)
}

// lock takes a lock (syscall.LOCK_SH or LOCK_EX) within a limit, else errLocked.
// It asks again and again instead of sleeping in the kernel, where no limit
// could wake it.
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
			return errLocked
		}
		time.Sleep(pause)
	}
}

// flock keeps the descriptor from being closed, and used anew, meanwhile.
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
