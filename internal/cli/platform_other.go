//go:build !unix

package cli

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/term"
)

func inheritedFile(int) (*os.File, error) {
	return nil, errors.New("this system does not pass file descriptors by number")
}

// openTTY opens the console.
func openTTY() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }

// readHidden prints prompt and reads a line without echo.
func readHidden(tty *os.File, prompt string) ([]byte, error) {
	_, _ = io.WriteString(os.Stderr, prompt)
	defer func() { _, _ = io.WriteString(os.Stderr, "\n") }()
	return term.ReadPassword(int(tty.Fd()))
}

// endingSignals are what a person or a system ends a command with.
var endingSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// surviveBrokenPipes has nothing to do: a broken pipe is an error here.
func surviveBrokenPipes() {}

// raise ends the process as a signal that OnSignal took away would have.
func raise(os.Signal) { os.Exit(130) }
