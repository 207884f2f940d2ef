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

// nonblock is 0: no file waits when it is opened.
const nonblock = 0

// openTTY opens the console.
func openTTY() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }

// readHidden prints prompt and reads a line without echo.
func readHidden(tty *os.File, prompt string) ([]byte, error) {
	_, _ = io.WriteString(os.Stderr, prompt)
	defer func() { _, _ = io.WriteString(os.Stderr, "\n") }()
	return term.ReadPassword(int(tty.Fd()))
}

// endingSignals are the signals with which a person or the system ends a command.
var endingSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// handleBrokenPipes does nothing: a write to a broken pipe returns an error on this system.
func handleBrokenPipes() {}

// raise ends the process as the signal would have done that OnSignal caught.
func raise(os.Signal) { os.Exit(130) }
