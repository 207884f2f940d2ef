package emulator

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"maclef/internal/transport/frame"
)

//go:embed watch.sh
var watchScript string

// MissingProgram returns the name of the first program that the emulator needs and that is
// not installed.
func MissingProgram() (name string, err error) {
	for _, name := range []string{SWTPM, "sh", "flock", "grep"} {
		if _, err := exec.LookPath(name); err != nil {
			return name, err
		}
	}
	return "", nil
}

// SWTPM is the name of the software TPM's program.
const SWTPM = "swtpm"

// ensureRunning starts swtpm unless it runs. The caller holds start.lock, and the users'
// lock: without the latter the watcher would end swtpm at once.
func (e *Emulator) ensureRunning() error {
	if e.Listening(e.Socket()) == nil {
		return nil
	}
	if err := e.markSetupNeeded(); err != nil {
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

// await waits until the new swtpm answers. swtpm takes connections before it has read its
// state, and may end then.
func (e *Emulator) await(ended <-chan struct{}) error {
	deadline := time.Now().Add(e.Start)
	for {
		err := e.ping(time.Until(deadline))
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			// A process that died may have started another swtpm.
			if e.ping(e.Probe) == nil {
				return nil
			}
			return e.startError(errors.New("it ended at once"))
		case <-time.After(2 * time.Millisecond):
			if time.Now().After(deadline) {
				return e.startError(fmt.Errorf("no answer within %v: %w", e.Start, err))
			}
		}
	}
}

// ping sends a short command. No other process uses an swtpm that is starting.
func (e *Emulator) ping(limit time.Duration) error {
	return e.Ask(e.Socket(), frame.Probe(), limit)
}

// startError adds swtpm's own message to why.
func (e *Emulator) startError(why error) error {
	tail := e.logTail()
	if strings.Contains(tail, "lockfile") {
		return fmt.Errorf("%w (swtpm: %s)", ErrOtherSWTPM, tail)
	}
	if err := e.CheckWritable(); err != nil {
		return fmt.Errorf("start swtpm: %w", err)
	}
	if tail == "" {
		return fmt.Errorf("start swtpm: %w: %w", why, ErrKilled)
	}
	return fmt.Errorf("start swtpm: %w: %s", why, tail)
}

// markSetupNeeded records that the new TPM has to be set up.
func (e *Emulator) markSetupNeeded() error {
	if !e.setup {
		return nil
	}
	_, err := os.Lstat(filepath.Join(e.dir, e.stateFile()))
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	marker, err := openFile(filepath.Join(e.dir, markerFile), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	return errors.Join(marker.Sync(), marker.Close())
}

// launch starts the watcher, which starts swtpm, in a session of its own, so that the
// terminal's signals do not reach them. The returned pipe ends when swtpm has ended.
func (e *Emulator) launch() (alive *os.File, err error) {
	log, err := openFile(filepath.Join(e.dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := log.Truncate(0); err != nil {
		return nil, err
	}
	alive, pipeEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer pipeEnd.Close()
	cmd := exec.Command("sh", append([]string{"-c", watchScript, "maclef-emulator"}, e.options...)...)
	cmd.Dir = e.dir
	cmd.Env = watcherEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = make([]*os.File, max(1, highestInheritable()-2)) // nil files are closed in the child
	cmd.ExtraFiles[0] = pipeEnd
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		alive.Close()
		return nil, err
	}
	go cmd.Wait() // reaps the process
	return alive, nil
}

// highestInheritable returns the highest descriptor that a child process would inherit. Go
// sets close-on-exec on its descriptors, but others may not: those may hold secrets, or
// keep a pipe open for as long as swtpm lives.
func highestInheritable() int {
	highest := 2
	open, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			highest = max(highest, fd)
		}
	}
	return highest
}

// watcherEnv returns the environment variables that swtpm needs. Others may hold secrets.
func watcherEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// logTail returns the end of swtpm's log in one line.
func (e *Emulator) logTail() string {
	const most = 500
	log, err := openFile(filepath.Join(e.dir, logFile), os.O_RDONLY)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	data, err := io.ReadAll(log)
	if err != nil {
		return err.Error()
	}
	data = data[max(0, len(data)-most):]
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "; ")
}
