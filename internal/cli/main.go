package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"maclef/internal/advice"
	"maclef/internal/printable"
)

// Exit statuses of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// A Run is the run function of a command. args do not contain the command's name.
type Run func(args []string, stdin io.Reader, stdout, stderr io.Writer) error

// Main runs a command with the arguments and streams of the process. It prints an error as
// "name: error: …" and a hint as "name: hint: …" on standard error. It returns the exit
// status: 0, 1 (failed) or 2 (wrong usage).
//
// If writing standard output fails, Main reports that even if run ignored it. A broken pipe
// ends the command without a message, as with other tools.
func Main(name string, run Run) int {
	handleBrokenPipes()
	stdout := &stdoutWriter{file: os.Stdout}
	err := run(os.Args[1:], os.Stdin, stdout, os.Stderr)
	var help *Help
	if errors.As(err, &help) {
		_, err = io.WriteString(stdout, help.Text)
	}
	if err == nil && stdout.failed != nil {
		err = stdout.failed
	}
	return report(name, os.Args[1:], err, os.Stderr)
}

// report prints err and returns the exit status.
func report(name string, args []string, err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	var writing *stdoutError
	if errors.As(err, &writing) && errors.Is(writing.err, syscall.EPIPE) {
		return exitFailed
	}
	fmt.Fprintf(stderr, "%s: error: %s\n", name, printable.Text(err.Error()))
	var usage *UsageError
	isUsage := errors.As(err, &usage)
	hint := Hint(err, args)
	if hint == "" && isUsage {
		hint = name + " -h lists the flags"
	}
	if hint != "" {
		fmt.Fprintf(stderr, "%s: hint: %s\n", name, printable.Text(hint))
	}
	if isUsage {
		return exitUsage
	}
	return exitFailed
}

// Hint returns what to do about err; empty if nothing is known. A hint of the error
// itself (method Hint() string) comes first. args tell which flags the user has set.
func Hint(err error, args []string) string {
	var own interface{ Hint() string }
	if errors.As(err, &own) && own.Hint() != "" {
		return own.Hint()
	}
	return advice.Hint(err, func(flag string) bool { return hasFlag(args, flag) })
}

// hasFlag reports whether a flag is in args, with one dash or two.
func hasFlag(args []string, name string) bool {
	for _, arg := range args {
		if arg == "--" {
			return false
		}
		flag, _, _ := strings.Cut(arg, "=")
		if flag == "-"+name || flag == "--"+name {
			return true
		}
	}
	return false
}

// A stdoutWriter is standard output. It keeps its first error, for commands that do not
// check.
type stdoutWriter struct {
	file   *os.File
	failed *stdoutError
}

func (w *stdoutWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.file.Write(p)
	if err != nil {
		w.failed = &stdoutError{err: withoutPath(err)}
		return n, w.failed
	}
	return n, nil
}

// Fd lets callers find out whether this is a terminal.
func (w *stdoutWriter) Fd() uintptr { return w.file.Fd() }

type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return "write standard output: " + e.err.Error() }
func (e *stdoutError) Unwrap() error { return e.err }

// withoutPath removes the operation and the path from an error of package os, for messages
// that contain them already.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}
