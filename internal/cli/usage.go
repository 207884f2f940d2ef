package cli

import "fmt"

// A UsageError says that the command line is wrong: exit status 2.
type UsageError struct {
	Text   string // what is wrong
	Advice string // what to write instead; empty for "NAME -h lists the flags"
}

func (e *UsageError) Error() string { return e.Text }

// Hint is the advice printed under the error.
func (e *UsageError) Hint() string { return e.Advice }

// Usagef returns a [UsageError] with a formatted text.
func Usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// Help is the error that asks [Main] for a usage text on standard output and
// exit status 0: what [FlagSet.Parse] returns for -h.
type Help struct{ Text string }

func (h *Help) Error() string { return "help requested" }

// hintedError is an error that brings its own advice.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

// WithHint returns err with advice that [Main] prints under it.
func WithHint(err error, hint string) error { return &hintedError{err: err, hint: hint} }

// Counted is a number with its noun: "1 key", "2 keys".
func Counted[N int | int64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
