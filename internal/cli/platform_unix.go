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

// inheritedFile returns an open descriptor that the caller passed. It sets close-on-exec,
// so that child processes do not get it.
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

// nonblock makes opening a named pipe not wait for its writer.
const nonblock = unix.O_NONBLOCK

// openTTY opens the controlling terminal.
func openTTY() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// readHidden prints prompt and reads a line without echo. Unlike term.ReadPassword, it ends
// at end of file (Ctrl-D, or a terminal that hung up), limits the length, and clears its
// buffer. A signal restores the echo first.
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
	defer onContinue(func() {
		_ = unix.IoctlSetTermios(fd, ioctlSetTermios, hidden)
		_, _ = io.WriteString(tty, prompt)
	})()
	return readSecretLine(tty)
}

// onContinue calls f whenever the process continues after Ctrl-Z, until stop. When stop returns,
// no call of f is under way.
func onContinue(f func()) (stop func()) {
	continued, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(continued, syscall.SIGCONT)
	go func() {
		defer close(ended)
		for range continued {
			f()
		}
	}()
	return func() {
		signal.Stop(continued)
		close(continued)
		<-ended
	}
}

// endingSignals are the signals with which a person or the system ends a command.
var endingSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// handleBrokenPipes makes a write to a broken pipe return an error, so that the command can
// free what it loaded into a TPM. It catches SIGPIPE instead of ignoring it, because child
// processes would inherit that.
func handleBrokenPipes() {
	if !signal.Ignored(syscall.SIGPIPE) { // if it is ignored, the write returns an error already
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
}

// raise sends the process the signal that OnSignal caught. It gives the signal time to end
// the process: another thread may receive it.
func raise(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok && syscall.Kill(os.Getpid(), s) == nil {
		time.Sleep(raiseDelay)
	}
}

// raiseDelay is how long raise waits. It also delays a command that handles the signal
// itself.
const raiseDelay = 100 * time.Millisecond
