package main

import (
	"fmt"

	"maclef/internal/cli"
)

// say prints a line on standard error, or wherever messages go.
func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.env.Stderr, "ecryptmount: %s\n", cli.Printable(fmt.Sprintf(format, args...)))
}
