package cli

import (
	"fmt"
	"io"
	"sync"

	"golang.org/x/term"

	"maclef/internal/printable"
)

// An Env is what one run of a command has around it.
type Env struct {
	Name           string // the command, in messages
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	screen screen
	warned sync.Once // that the TPM is a software TPM

	files          sync.Mutex // guards what follows: secrets are read by any goroutine
	read, replaced []usedFile
}

// NewEnv returns the surroundings of the command name.
func NewEnv(name string, stdin io.Reader, stdout, stderr io.Writer) *Env {
	e := &Env{Name: name, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	if fd, ok := terminalFd(stdout); ok && IsTerminal(stdout) && IsTerminal(stderr) {
		e.Stdout = &screenWriter{e, stdout, fd}
	}
	return e
}

// A screenWriter is standard output on the terminal that progress is shown on.
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

// Fd makes the writer a terminal to those who ask.
func (s *screenWriter) Fd() uintptr { return uintptr(s.fd) }

// Notef prints "name: note: …" on standard error.
func (e *Env) Notef(format string, args ...any) {
	e.screen.mu.Lock()
	defer e.screen.mu.Unlock()
	e.note(fmt.Sprintf(format, args...))
}

// NoteNow is Notef for when a signal has come, which may be in the middle of a
// prompt: then it says nothing.
func (e *Env) NoteNow(text string) {
	if e.screen.mu.TryLock() {
		defer e.screen.mu.Unlock()
		e.note(text)
	}
}

// note prints a note. The caller holds the screen.
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
