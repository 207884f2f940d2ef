package cli

import (
	"fmt"
	"io"
	"sync"

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
