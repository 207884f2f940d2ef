package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Files in the emulator's directory, besides the lock files and swtpm's own.
const (
	dataSocket    = "sock"
	controlSocket = "ctrl"
	stateFile     = "tpm-00.permall"
	state20File   = "tpm2-00.permall"
	markerFile    = "setup-unfinished"
	logFile       = "swtpm.log"
)

// emulator is one user of the swtpm that runs over a directory. All users of
// the directory share it and connect to it in turn: swtpm serves one at a time,
// and keeps keys and sessions between connections.
type emulator struct {
	path   string
	limits waits
	users  *os.File // holds the shared lock that keeps swtpm running
	turn   *turnLock
	born   incarnation

	mu     sync.Mutex
	conn   net.Conn // while in a turn
	closed bool
	turns  int
}

// incarnation tells one run of swtpm from the next, by the socket that it made.
type incarnation struct {
	inode uint64
	made  syscall.Timespec
}

// errRestarted is why a device must be opened again.
var errRestarted = errors.New("the software TPM has ended or was restarted, what was loaded in it is lost: open it again")

// openEmulator opens the software TPM over a directory, starting it unless it
// runs. An empty dir means the default one.
func (o opener) openEmulator(doing, dir string) (*Device, error) {
	dir, err := emulatorDir(dir)
	name := "emulator:" + dir
	if err != nil {
		return nil, fmt.Errorf("%s emulator: %w", doing, err)
	}
	if err := needPrograms(doing, name); err != nil {
		return nil, err
	}
	e := &emulator{path: dir, limits: o.waits}
	if err := e.open(); err != nil {
		e.close()
		return nil, e.explain(doing, name, err)
	}
	return newDevice(name, e, o.waits), nil
}

// errOtherSWTPM is a start that failed because the state is in use.
var errOtherSWTPM = errors.New("another swtpm is running over this directory: stop it, or connect to its socket with unix:PATH")

// explain says what to do about an error of open.
func (e *emulator) explain(doing, name string, err error) error {
	switch {
	case errors.Is(err, errLocked):
		return failure(doing, name, ErrBusy, "other programs have been starting or stopping it for %v: wait and try again", e.limits.start)
	case errors.Is(err, errOtherSWTPM):
		return failure(doing, name, ErrBusy, "%w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(doing, name, ErrPermission, "use a directory of your own (emulator:DIR): %w", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: it must be a directory, or a path where one can be made: %w", doing, name, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: its state cannot be written there, use another directory (emulator:DIR): %w", doing, name, err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// open becomes a user of the directory and sees that swtpm runs.
func (e *emulator) open() (err error) {
	if e.path, err = makeStateDir(e.path); err != nil {
		return err
	}
	if e.users, err = openLock(e.path, "users.lock"); err != nil {
		return err
	}
	// The lock is refused while an old swtpm is being ended.
	if err = lock(e.users, syscall.LOCK_SH, e.limits.start); err != nil {
		return err
	}
	if e.turn, err = newTurnLock(e.path); err != nil {
		return err
	}
	starter, err := openLock(e.path, "start.lock")
	if err != nil {
		return err
	}
	defer starter.Close()
	if err = lock(starter, syscall.LOCK_EX, e.limits.start); err != nil {
		return err
	}
	// An swtpm that still takes connections may be about to end, if its watcher
	// was killed; its socket goes with it.
	for deadline := time.Now().Add(e.limits.start); ; {
		if err = e.ensureRunning(); err != nil {
			return err
		}
		e.born, err = e.incarnation()
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
	}
}

func (e *emulator) incarnation() (incarnation, error) {
	var st syscall.Stat_t
	path := filepath.Join(e.path, dataSocket)
	if err := syscall.Stat(path, &st); err != nil {
		return incarnation{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return incarnation{st.Ino, st.Mtim}, nil
}

func (e *emulator) dial(base string) (net.Conn, error) {
	return dialPatiently("unix", filepath.Join(e.path, base), e.limits.start)
}

func (e *emulator) begin() error {
	err := e.turn.take(e.limits.turn)
	if errors.Is(err, errLocked) {
		return failure("use", "emulator:"+e.path, ErrBusy, "another program has been using it for %v: stop it or wait, and try again", e.limits.turn)
	}
	if err == nil {
		err = e.connect()
	}
	if errors.Is(err, syscall.EAGAIN) {
		return failure("use", "emulator:"+e.path, ErrBusy, "programs that take no turns are connected to its socket: stop them, and try again: %w", err)
	}
	if err != nil {
		return failure("use", "emulator:"+e.path, ErrGone, "%w", err)
	}
	return nil
}

// connect opens the turn's connection, to the same run of swtpm as always.
func (e *emulator) connect() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return os.ErrClosed
	}
	conn, err := e.dial(dataSocket)
	if err != nil {
		e.turn.release()
		return fmt.Errorf("%w (%w)", errRestarted, err)
	}
	if now, err := e.incarnation(); err != nil || now != e.born {
		conn.Close()
		e.turn.release()
		return errRestarted
	}
	e.conn = conn
	e.turns++
	if e.turns%4096 == 0 {
		e.trimLog()
	}
	return nil
}

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

func (e *emulator) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
		e.turn.release()
	}
}

func (e *emulator) exchange(cmd []byte) ([]byte, error) {
	if e.conn == nil {
		return nil, os.ErrClosed
	}
	return exchange(e.conn, cmd, e.limits.command)
}

func (e *emulator) close() error {
	e.end()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.turn != nil {
		e.turn.close()
	}
	if e.users != nil {
		return e.users.Close()
	}
	return nil
}

func (e *emulator) setupNeeded() bool {
	_, err := os.Stat(filepath.Join(e.path, markerFile))
	return err == nil
}

func (e *emulator) setupDone() error {
	err := os.Remove(filepath.Join(e.path, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
