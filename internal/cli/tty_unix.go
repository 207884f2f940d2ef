//go:build unix

package cli

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openTTY opens the terminal that controls this process.
func openTTY() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// readHidden prints prompt and reads a line without echo. Other than
// term.ReadPassword it ends at end of file (Ctrl-D, a terminal that hung up), is
// bounded, and clears what it read through. A signal restores the echo first.
func readHidden(tty *os.File, prompt string) ([]byte, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	restore := func() {
		_ = term.Restore(fd, before)
		_, _ = io.WriteString(tty, "\n")
	}
	stop := OnSignal(restore)
	defer stop()
	hidden, err := unix.IoctlGetTermios(fd, ioctlGetTermios)
	if err != nil {
		return nil, err
	}
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, ioctlSetTermios, hidden); err != nil {
		return nil, err
	}
	defer restore()
	if _, err := io.WriteString(tty, prompt); err != nil {
		return nil, err
	}
	return readSecretLine(tty)
}
