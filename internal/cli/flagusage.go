package cli

import (
	"flag"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The explanation of a flag begins at column usageColumn and ends before usageWidth.
const (
	usageColumn = 28
	usageWidth  = 80
)

// UsageText returns what -h prints: purpose, synopsis, flags, notes, example.
func (fs *FlagSet) UsageText() string {
	var b strings.Builder
	synopsis := []string{fs.Name}
	if len(fs.entries) > 0 {
		synopsis = append(synopsis, "[flags]")
	}
	synopsis = append(synopsis, fs.Args...)
	fmt.Fprintf(&b, "%s\n\nUsage: %s\n", fs.Purpose, strings.Join(synopsis, " "))
	if len(fs.entries) > 0 {
		b.WriteString("\nFlags:\n")
	}
	for _, e := range fs.entries {
		fs.writeFlag(&b, e)
	}
	if len(fs.secrets.flags) > 0 {
		b.WriteString("\n" + secretUsage)
	}
	if fs.Notes != "" {
		for paragraph := range strings.SplitSeq(fs.Notes, "\n\n") {
			b.WriteString("\n" + strings.Join(wrapWords(paragraph, usageWidth-1), "\n") + "\n")
		}
	}
	if fs.Example != "" {
		b.WriteString("\nExample:\n")
		for line := range strings.Lines(strings.TrimSpace(fs.Example)) {
			fmt.Fprintf(&b, "  $ %s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

// writeFlag writes the names of a flag and its explanation. It adds the default, unless the
// explanation contains "(default …)".
func (fs *FlagSet) writeFlag(b *strings.Builder, e *entry) {
	def := fs.std.Lookup(e.names[0])
	placeholder, usage := flag.UnquoteUsage(def)
	left := "  -" + strings.Join(e.names, ", -")
	if placeholder != "" {
		left += " " + placeholder
	}
	if !isBool(e) && def.DefValue != "" && !strings.Contains(usage, "(default") {
		usage += " (default " + def.DefValue + ")"
	}
	indent := strings.Repeat(" ", usageColumn)
	if len(left) > usageColumn-2 {
		b.WriteString(left + "\n" + indent)
	} else {
		b.WriteString(left + indent[len(left):])
	}
	b.WriteString(strings.Join(wrapWords(usage, usageWidth-usageColumn), "\n"+indent) + "\n")
}

// wrapWords breaks a text into lines of at most width columns. It does not break words.
func wrapWords(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
