package cli

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"maclef/internal/printable"
)

// An Env is the environment of one run of a command.
type Env struct {
	Name           string // of the command, for messages
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	screen screen
	warned sync.Once // the user was warned that the TPM is a software TPM

	unattended atomic.Bool // see Unattended
	inputFlags []*entry    // flags that name a file to read

	files           sync.Mutex // guards the next fields: any goroutine may read secrets
	inputs, outputs []usedFile
}

// NewEnv returns the environment of the command name.
func NewEnv(name string, stdin io.Reader, stdout, stderr io.Writer) *Env {
	e := &Env{Name: name, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	if fd, ok := terminalFd(stdout); ok && IsTerminal(stdout) && IsTerminal(stderr) {
		e.Stdout = &screenWriter{e, stdout, fd}
	}
	return e
}

// A screenWriter is standard output on the terminal that also shows progress.
type screenWriter struct {
	env *Env
	w   io.Writer
	fd  int
}

func (s *screenWriter) Write(p []byte) (int, error) {
	s.env.screen.mu.Lock()
	s.env.screen.clear(s.env.Stderr)
	s.env.screen.mu.Unlock()
	return s.w.Write(p)
}

// Fd lets callers find out that this is a terminal.
func (s *screenWriter) Fd() uintptr { return uintptr(s.fd) }

// Unattended makes errors of what would wait for a person or another program, until attended: of
// asking for a secret, or for a line of standard input with one ([ErrUnattended]), and of reading
// other data from standard input, a pipe or a device ([ErrReadOnce]).
func (e *Env) Unattended() (attended func()) {
	e.unattended.Store(true)
	return func() { e.unattended.Store(false) }
}

// ErrUnattended is the error of asking for a secret after [Env.Unattended].
var ErrUnattended = errors.New("a secret is needed, and asked for at the start only")

// ErrReadOnce is the error of reading anything but a regular file after [Env.Unattended].
var ErrReadOnce = errors.New("not a regular file, and such are read at the start only")

// Notef prints "name: note: …" on standard error.
func (e *Env) Notef(format string, args ...any) {
	e.screen.mu.Lock()
	defer e.screen.mu.Unlock()
	e.note(fmt.Sprintf(format, args...))
}

// NoteNow is Notef for a signal handler. It prints nothing during a prompt.
func (e *Env) NoteNow(text string) {
	if e.screen.mu.TryLock() {
		defer e.screen.mu.Unlock()
		e.note(text)
	}
}

// note prints a note. The caller holds the lock of the screen.
func (e *Env) note(text string) {
	e.screen.clear(e.Stderr)
	fmt.Fprintf(e.Stderr, "%s: note: %s\n", e.Name, printable.Text(text))
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	fd, ok := terminalFd(stream)
	return ok && term.IsTerminal(fd)
}

func terminalFd(stream any) (int, bool) {
	file, ok := stream.(interface{ Fd() uintptr })
	if !ok {
		return 0, false
	}
	return int(file.Fd()), true
}
