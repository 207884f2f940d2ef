package cli

import (
	"fmt"
	"runtime"
)

// A UsageError says that the command line is wrong. The exit status is 2.
type UsageError struct {
	Text   string // what is wrong
	Advice string // what to do; empty for "NAME -h lists the flags"
}

func (e *UsageError) Error() string { return e.Text }

// Hint is printed after the error.
func (e *UsageError) Hint() string { return e.Advice }

// Usagef returns a [UsageError] with a formatted text.
func Usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// Help is the error with which [FlagSet.Parse] asks [Main] to print a usage text on
// standard output and exit with status 0.
type Help struct{ Text string }

func (h *Help) Error() string { return "help requested" }

// A hintedError is an error with a hint.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

// WithHint returns err with a hint that [Main] prints after it.
func WithHint(err error, hint string) error { return &hintedError{err: err, hint: hint} }

// Counted returns a number with its noun: "1 key", "2 keys".
func Counted[N int | int64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// version is the version of all commands.
const version = "0.1.0"

// VersionText returns what -version prints.
func VersionText(command string) string {
	return fmt.Sprintf("%s (maclef) %s, %s, %s/%s\n", command, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
