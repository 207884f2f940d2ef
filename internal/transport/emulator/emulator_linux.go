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

// Open makes this process a user of the directory, and starts swtpm if it does not run.
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
	// This fails while an old swtpm is ending.
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

// maxStarts is how often Open starts swtpm if it is killed right after its start.
const maxStarts = 3

// Run starts swtpm if it does not run. This process must be a user of the directory.
func (e *Emulator) Run() error {
	starter, err := openLock(e.dir, "start.lock")
	if err != nil {
		return err
	}
	defer starter.Close()
	if err = lock(starter, syscall.LOCK_EX, e.Start); err != nil {
		return err
	}
	// Another process may have made a TPM of the other generation in the meantime.
	if err = e.checkModel(e.dir); err != nil {
		return err
	}
	// An swtpm whose watcher was killed may take connections and then end, with its socket.
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

// Socket returns the path of swtpm's data channel.
func (e *Emulator) Socket() string { return filepath.Join(e.dir, dataSocket) }

// Control returns the path of swtpm's control channel.
func (e *Emulator) Control() string { return filepath.Join(e.dir, controlSocket) }

// Connecting is called before each connection to the socket.
func (e *Emulator) Connecting() {
	if e.connections++; e.connections%trimInterval == 0 {
		e.trimLog()
	}
}

// trimInterval is how many connections are made between two checks of the log's size.
const trimInterval = 1024

// trimLog empties swtpm's log if it is large: swtpm logs the end of every connection.
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

// Close stops using the directory.
func (e *Emulator) Close() error {
	if e.users == nil {
		return nil
	}
	if e.needsShutdown {
		e.shutDown()
	}
	return e.users.Close()
}

// SetupNeeded reports whether this project created the TPM, and SetupDone was not called
// since.
func (e *Emulator) SetupNeeded() bool {
	_, err := os.Stat(filepath.Join(e.dir, markerFile))
	return e.setup && err == nil
}

// SetupDone records for all users that the TPM is set up.
func (e *Emulator) SetupDone() error {
	err := os.Remove(filepath.Join(e.dir, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// shutdownCommand is TPM2_Shutdown(TPM_SU_CLEAR). TPM 2.0 Library Part 3, section 9.4
// (TPM2_Shutdown).
var shutdownCommand = [12]byte{0x80, 0x01, 5: 12, 8: 0x01, 9: 0x45}

// shutdownLimit is how long shutDown waits for another client of the TPM.
const shutdownLimit = time.Second

// shutDown sends TPM2_Shutdown if this is the last user. Without it, a TPM 2.0 counts a
// wrong secret if any secret was used since its start. TPM 2.0 Library Part 1, section on
// the lockout mode (dictionary attack). The exclusive lock keeps out new users. Asking for
// it gives up the shared lock, even if it fails.
func (e *Emulator) shutDown() {
	if flock(e.users, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	e.Ask(e.Socket(), shutdownCommand[:], shutdownLimit) // fails if swtpm was killed
}
