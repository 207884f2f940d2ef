//go:build !unix

package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// openTTY opens the console.
func openTTY() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }

// readHidden prints prompt and reads a line without echo.
func readHidden(tty *os.File, prompt string) ([]byte, error) {
	_, _ = io.WriteString(os.Stderr, prompt)
	defer func() { _, _ = io.WriteString(os.Stderr, "\n") }()
	return term.ReadPassword(int(tty.Fd()))
}
