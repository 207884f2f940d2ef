// Package printable makes foreign text (file names, the output of a TPM or of another
// program) safe to show on a terminal.
package printable

import (
	"strconv"
	"strings"
	"unicode"
)

// Line makes text safe for one line. It escapes control characters, line ends and
// characters that change the direction of writing.
func Line(text string) string {
	var b strings.Builder
	for _, r := range text {
		write(&b, r)
	}
	return b.String()
}

// Text is Line for several lines. It indents the lines after the first, and drops line ends
// at the end.
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

// ASCII drops the characters of a chip vendor's identifier that are not printable, such as
// spaces and zero padding.
func ASCII(id []byte) string {
	var kept []byte
	for _, b := range id {
		if b > ' ' && b <= '~' {
			kept = append(kept, b)
		}
	}
	return string(kept)
}
