package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Files in the emulator's directory, besides the lock files and swtpm's own.
const (
	dataSocket    = "sock"
	controlSocket = "ctrl"
	markerFile    = "setup-unfinished"
	logFile       = "swtpm.log"
)

// emulator is one user of the swtpm that runs over a directory. All users of
// the directory share it, and take turns at its socket. swtpm ends with the last
// of them; one that ends before is started anew.
type emulator struct {
	*model
	socketLink
	path   string
	limits waits
	users  *os.File // holds the shared lock that keeps swtpm running
	turns  int
}

// openEmulator opens the software TPM over a directory, starting it unless it
// runs. form tells the generation; an empty dir means the default one.
func (o opener) openEmulator(doing, form, dir string) (*Device, error) {
	m := modelOf(form)
	dir, err := m.directory(dir)
	name := form + ":" + dir
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", doing, form, err)
	}
	if err := needPrograms(doing, name); err != nil {
		return nil, err
	}
	e := &emulator{model: m, path: dir, limits: o.waits}
	if err := e.open(); err != nil {
		e.close()
		return nil, e.explain(doing, name, err)
	}
	e.socketLink = socketLink{
		network: "unix", address: filepath.Join(e.path, dataSocket), label: name, waits: o.waits, doing: doing,
		proved: true, generation: m.first,
		revive: func() error { return e.explain("use", name, e.run()) },
	}
	return newDevice(name, e, o.waits), nil
}

// errOtherSWTPM is a start that failed because the state is in use.
var errOtherSWTPM = errors.New("another swtpm is running over this directory: stop it, or connect to its socket with unix:PATH")

// explain says what to do about an error of open.
func (e *emulator) explain(doing, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errLocked):
		return failure(doing, name, ErrBusy, "other programs have been starting or stopping it for %v: wait and try again", e.limits.start)
	case errors.Is(err, errOtherSWTPM):
		return failure(doing, name, ErrBusy, "%w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(doing, name, ErrPermission, "use a directory of your own (%s:DIR): %w", e.form, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: it must be a directory, or a path where one can be made: %w", doing, name, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: its state cannot be written there, use another directory (%s:DIR): %w", doing, name, e.form, err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// open becomes a user of the directory and sees that swtpm runs.
func (e *emulator) open() (err error) {
	if e.path, err = e.makeStateDir(e.path); err != nil {
		return err
	}
	if e.users, err = openLock(e.path, "users.lock"); err != nil {
		return err
	}
	// The lock is refused while an old swtpm is being ended.
	if err = lock(e.users, syscall.LOCK_SH, e.limits.start); err != nil {
		return err
	}
	for range emulatorStarts {
		if err = e.run(); !errors.Is(err, errKilled) {
			break
		}
	}
	return err
}

// emulatorStarts is how often swtpm is started where somebody kills it meanwhile.
const emulatorStarts = 3

// run sees that swtpm runs; this process is a user of it already.
func (e *emulator) run() error {
	starter, err := openLock(e.path, "start.lock")
	if err != nil {
		return err
	}
	defer starter.Close()
	if err = lock(starter, syscall.LOCK_EX, e.limits.start); err != nil {
		return err
	}
	// Another process may have made a TPM of the other generation meanwhile.
	if err = e.checkModel(e.path); err != nil {
		return err
	}
	// An swtpm that still takes connections may be about to end, if its watcher
	// was killed; its socket goes with it.
	for deadline := time.Now().Add(e.limits.start); ; {
		if err = e.ensureRunning(); err != nil {
			return err
		}
		_, err = os.Stat(filepath.Join(e.path, dataSocket))
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
	}
}

func (e *emulator) begin(ctx context.Context) error {
	if e.turns++; e.turns%trimEvery == 0 {
		e.trimLog()
	}
	return e.socketLink.begin(ctx)
}

// trimEvery is after how many connections the log is looked at.
const trimEvery = 1024

// trimLog empties swtpm's log, in which it notes the end of every connection.
func (e *emulator) trimLog() {
	log, err := openFile(filepath.Join(e.path, logFile), os.O_WRONLY)
	if err != nil {
		return
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > 1<<20 {
		log.Truncate(0)
	}
}

func (e *emulator) close() error {
	if e.users == nil {
		return nil
	}
	if e.orderly {
		e.shutDown()
	}
	return e.users.Close()
}

func (e *emulator) setupNeeded() bool {
	_, err := os.Stat(filepath.Join(e.path, markerFile))
	return e.setup && err == nil
}

func (e *emulator) setupDone() error {
	err := os.Remove(filepath.Join(e.path, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
