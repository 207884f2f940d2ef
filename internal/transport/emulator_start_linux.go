package transport

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed watch.sh
var watchScript string

// needPrograms finds what the emulator is made of, else explains.
func needPrograms(doing, name string) error {
	if _, err := exec.LookPath("swtpm"); err != nil {
		return failure(doing, name, ErrNoSWTPM, "install it with \"apt-get install swtpm\": %w", err)
	}
	for _, program := range []string{"sh", "flock", "grep"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s %s: the emulator needs the program %s of Debian's essential packages: %w", doing, name, program, err)
		}
	}
	return nil
}

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

func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, state20File)); err == nil {
		return errors.New("the directory holds the state of a TPM 2.0, this is a TPM 1.2: name another one with emulator:DIR")
	}
	return nil
}

// ensureRunning starts swtpm unless it runs. The caller holds start.lock, and
// the users' lock, without which the watcher would end swtpm at once.
func (e *emulator) ensureRunning() error {
	if e.listening() == nil {
		return nil
	}
	if err := e.markFresh(); err != nil {
		return err
	}
	alive, err := e.launch()
	if err != nil {
		return fmt.Errorf("start swtpm: %w", err)
	}
	defer alive.Close()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, alive)
		close(ended)
	}()
	return e.await(ended)
}

// await waits until the swtpm that was launched answers. It takes connections
// before it has read its state, and may end then.
func (e *emulator) await(ended <-chan struct{}) error {
	deadline := time.Now().Add(e.limits.start)
	for {
		err := e.answering(time.Until(deadline))
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			// Perhaps another one was being started by a process that died.
			if e.answering(e.limits.probe) == nil {
				return nil
			}
			return e.startError(errors.New("it ended at once"))
		case <-time.After(2 * time.Millisecond):
			if time.Now().After(deadline) {
				return e.startError(fmt.Errorf("no answer within %v: %w", e.limits.start, err))
			}
		}
	}
}

// answering sends a trifle. Nobody else uses a swtpm that is being started.
func (e *emulator) answering(limit time.Duration) error {
	conn, err := dial("unix", filepath.Join(e.path, dataSocket), time.Now().Add(limit))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(conn, probeCommand[:], limit)
	return err
}

// startError adds swtpm's own explanation to why.
func (e *emulator) startError(why error) error {
	tail := e.logTail()
	if strings.Contains(tail, "lockfile") {
		return fmt.Errorf("%w (swtpm: %s)", errOtherSWTPM, tail)
	}
	if err := e.tryWriting(); err != nil {
		return fmt.Errorf("start swtpm: %w", err)
	}
	if tail == "" {
		tail = "it left no message"
	}
	return fmt.Errorf("start swtpm: %w: %s", why, tail)
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

// listening reports whether swtpm takes connections. Its queue being full says
// that it does.
func (e *emulator) listening() error {
	conn, err := dial("unix", filepath.Join(e.path, dataSocket), time.Now().Add(e.limits.probe))
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, syscall.EAGAIN):
		return nil
	}
	return err
}

// markFresh notes that the TPM that is about to be made needs setting up.
func (e *emulator) markFresh() error {
	_, err := os.Lstat(filepath.Join(e.path, stateFile))
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	marker, err := os.OpenFile(filepath.Join(e.path, markerFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(marker.Sync(), marker.Close())
}

// launch starts the watcher, which starts swtpm, out of reach of this terminal's
// signals. The pipe that it returns ends when swtpm has ended.
func (e *emulator) launch() (alive *os.File, err error) {
	log, err := os.OpenFile(filepath.Join(e.path, logFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	alive, pipeEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer pipeEnd.Close()
	cmd := exec.Command("sh", "-c", watchScript, "maclef-emulator")
	cmd.Dir = e.path
	cmd.Env = watcherEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{pipeEnd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		alive.Close()
		return nil, err
	}
	go cmd.Wait() // leaves no zombie
	return alive, nil
}

// watcherEnv is what swtpm needs of the environment, which may hold secrets.
func watcherEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// logTail is the end of swtpm's log, in one line.
func (e *emulator) logTail() string {
	const most = 500
	data, err := os.ReadFile(filepath.Join(e.path, logFile))
	if err != nil {
		return err.Error()
	}
	data = data[max(0, len(data)-most):]
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "; ")
}
