//go:build unix

package cli

import (
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// inheritedFile returns an open descriptor that the caller passed, and keeps it
// from the programs that this one starts.
func inheritedFile(fd int) (*os.File, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, unix.EBADF
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "fd:"+strconv.Itoa(fd)), nil
}

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

// endingSignals are what a person or a system ends a command with.
var endingSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// surviveBrokenPipes makes writing to a pipe that nobody reads an error, so that
// what was loaded into a TPM is freed. SIGPIPE is taken, not ignored: children
// would inherit that.
func surviveBrokenPipes() {
	if !signal.Ignored(syscall.SIGPIPE) { // else it is an error already
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
}

// raise sends the process a signal that OnSignal took away from it, and gives it
// time to end the process: another thread may be the one that receives it.
func raise(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok && syscall.Kill(os.Getpid(), s) == nil {
		time.Sleep(raiseTime)
	}
}

// raiseTime is also how long a command that watches for the signal elsewhere is
// held up.
const raiseTime = 100 * time.Millisecond
