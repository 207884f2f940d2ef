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

// A Run does the work of a command. args are without the command's name.
type Run func(args []string, stdin io.Reader, stdout, stderr io.Writer) error

// Main runs a command with the arguments and streams of the process, reports
// its error as "name: error: …" and, where there is advice, "name: hint: …" on
// standard error, and returns the exit status: 0, 1 (failed) or 2 (usage).
//
// An error writing standard output is an error even where run overlooked it; a
// broken pipe there ends the command without a word, as it does other tools.
func Main(name string, run Run) int {
	surviveBrokenPipes()
	product := &productWriter{file: os.Stdout}
	err := run(os.Args[1:], os.Stdin, product, os.Stderr)
	var help *Help
	if errors.As(err, &help) {
		_, err = io.WriteString(product, help.Text)
	}
	if err == nil && product.failed != nil {
		err = product.failed
	}
	return report(name, os.Args[1:], err, os.Stderr)
}

// report tells the user about err and gives the exit status that goes with it.
func report(name string, args []string, err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	var product *productError
	if errors.As(err, &product) && errors.Is(product.err, syscall.EPIPE) {
		return exitFailed
	}
	fmt.Fprintf(stderr, "%s: error: %s\n", name, printable.Text(err.Error()))
	var usage *UsageError
	isUsage := errors.As(err, &usage)
	hint := hintFor(err, args)
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

// hintFor is what to do about err, "" where nobody knows. Advice that an error brings along
// (Hint() string) comes first. args tell which flags the user has tried.
func hintFor(err error, args []string) string {
	var own interface{ Hint() string }
	if errors.As(err, &own) && own.Hint() != "" {
		return own.Hint()
	}
	return advice.Hint(err, func(flag string) bool { return hasFlag(args, flag) })
}

// hasFlag reports whether a flag stands in args, with one dash or two.
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

// productWriter is standard output. It remembers its first error, for commands
// that print without looking.
type productWriter struct {
	file   *os.File
	failed *productError
}

func (w *productWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.file.Write(p)
	if err != nil {
		w.failed = &productError{err: withoutPath(err)}
		return n, w.failed
	}
	return n, nil
}

// Fd makes the writer a terminal to those who ask.
func (w *productWriter) Fd() uintptr { return w.file.Fd() }

type productError struct{ err error }

func (e *productError) Error() string { return "write standard output: " + e.err.Error() }
func (e *productError) Unwrap() error { return e.err }

// withoutPath takes operation and path off an error of package os, for texts
// that have said them already.
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
