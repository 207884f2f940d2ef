package emulator

import (
	"errors"
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

// An Emulator is one user of the swtpm that runs over a directory.
type Emulator struct {
	*Model
	Options
	dir         string
	users       *os.File // holds the shared lock that keeps swtpm running
	connections int
}

// Open becomes a user of the directory, and sees that swtpm runs.
func Open(m *Model, dir string, o Options) (*Emulator, error) {
	e := &Emulator{Model: m, Options: o, dir: dir}
	if err := e.open(); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Emulator) open() (err error) {
	if e.dir, err = e.makeStateDir(e.dir); err != nil {
		return err
	}
	if e.users, err = openLock(e.dir, "users.lock"); err != nil {
		return err
	}
	// The lock is refused while an old swtpm is being ended.
	if err = lock(e.users, syscall.LOCK_SH, e.Start); err != nil {
		return err
	}
	for range maxStarts {
		if err = e.Run(); !errors.Is(err, ErrKilled) {
			break
		}
	}
	return err
}

// maxStarts is how often swtpm is started where somebody kills it meanwhile.
const maxStarts = 3

// Run sees that swtpm runs; this process is a user of it already.
func (e *Emulator) Run() error {
	starter, err := openLock(e.dir, "start.lock")
	if err != nil {
		return err
	}
	defer starter.Close()
	if err = lock(starter, syscall.LOCK_EX, e.Start); err != nil {
		return err
	}
	// Another process may have made a TPM of the other generation meanwhile.
	if err = e.checkModel(e.dir); err != nil {
		return err
	}
	// An swtpm that still takes connections may be about to end, if its watcher
	// was killed; its socket goes with it.
	for deadline := time.Now().Add(e.Start); ; {
		if err = e.ensureRunning(); err != nil {
			return err
		}
		_, err = os.Stat(e.Socket())
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
	}
}

// Socket is the path of swtpm's data channel.
func (e *Emulator) Socket() string { return filepath.Join(e.dir, dataSocket) }

// Connecting says that a connection to the socket will be made.
func (e *Emulator) Connecting() {
	if e.connections++; e.connections%trimEvery == 0 {
		e.trimLog()
	}
}

// trimEvery is after how many connections the log is looked at.
const trimEvery = 1024

// trimLog empties swtpm's log, in which it notes the end of every connection.
func (e *Emulator) trimLog() {
	log, err := openFile(filepath.Join(e.dir, logFile), os.O_WRONLY)
	if err != nil {
		return
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > 1<<20 {
		log.Truncate(0)
	}
}

// Close stops being a user.
func (e *Emulator) Close() error {
	if e.users == nil {
		return nil
	}
	if e.orderly {
		e.shutDown()
	}
	return e.users.Close()
}

// SetupNeeded reports whether the TPM was made here, and SetupDone has not been called since.
func (e *Emulator) SetupNeeded() bool {
	_, err := os.Stat(filepath.Join(e.dir, markerFile))
	return e.setup && err == nil
}

// SetupDone notes for all users that the TPM is set up.
func (e *Emulator) SetupDone() error {
	err := os.Remove(filepath.Join(e.dir, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// shutdownCommand is TPM2_Shutdown(TPM_SU_CLEAR): TPM 2.0 Library Part 3, section 9.4
// (TPM2_Shutdown).
var shutdownCommand = [12]byte{0x80, 0x01, 5: 12, 8: 0x01, 9: 0x45}

// shutdownLimit is how long somebody else may keep the TPM busy at its end.
const shutdownLimit = time.Second

// shutDown tells the TPM that it will be switched off, if this is its last user: a
// TPM 2.0 that is switched off without a word counts a wrong secret if any secret was
// used. TPM 2.0 Library Part 1, section on the lockout mode (dictionary attack). The
// lock keeps newcomers away; whether or not it can be had, the users' lock is lost.
func (e *Emulator) shutDown() {
	if flock(e.users, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	e.Ask(e.Socket(), shutdownCommand[:], shutdownLimit) // in vain where swtpm was killed
}
