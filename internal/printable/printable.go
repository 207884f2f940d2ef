// Package printable makes text of others (file names, what a TPM or another program
// says) safe to show on a terminal.
package printable

import (
	"strconv"
	"strings"
	"unicode"
)

// Line makes text safe for one line: control characters, line ends and what changes
// the direction of writing become their escapes.
func Line(text string) string {
	var b strings.Builder
	for _, r := range text {
		write(&b, r)
	}
	return b.String()
}

// Text is Line for text of several lines: lines after the first are indented, line
// ends at its end go.
func Text(text string) string {
	var b strings.Builder
	for _, r := range strings.TrimRight(text, "\n") {
		if r == '\n' {
			b.WriteString("\n  ")
			continue
		}
		write(&b, r)
	}
	return b.String()
}

func write(b *strings.Builder, r rune) {
	if unicode.IsPrint(r) {
		b.WriteRune(r)
		return
	}
	quoted := strconv.QuoteRuneToASCII(r)
	b.WriteString(quoted[1 : len(quoted)-1])
}

// ASCII drops from a chip vendor's identifier what does not print, such as spaces and
// the zeros that fill it up.
func ASCII(id []byte) string {
	var kept []byte
	for _, b := range id {
		if b > ' ' && b <= '~' {
			kept = append(kept, b)
		}
	}
	return string(kept)
}
