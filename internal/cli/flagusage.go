package cli

import (
	"flag"
	"fmt"
	"strings"
)

// usageColumn is where the explanations of flags begin.
const usageColumn = 28

// UsageText is what -h prints: purpose, synopsis, flags, notes, example.
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
		b.WriteString("\n" + strings.TrimRight(fs.Notes, "\n") + "\n")
	}
	if fs.Example != "" {
		b.WriteString("\nExample:\n")
		for line := range strings.Lines(strings.TrimSpace(fs.Example)) {
			fmt.Fprintf(&b, "  $ %s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

// writeFlag writes one line with all names of a flag.
func (fs *FlagSet) writeFlag(b *strings.Builder, e *entry) {
	def := fs.std.Lookup(e.names[0])
	placeholder, usage := flag.UnquoteUsage(def)
	left := "  -" + strings.Join(e.names, ", -")
	if placeholder != "" {
		left += " " + placeholder
	}
	if !isBool(e) && def.DefValue != "" {
		usage += " (default " + def.DefValue + ")"
	}
	if len(left) > usageColumn-2 {
		left += "\n"
	} else {
		left += strings.Repeat(" ", usageColumn-len(left))
	}
	if strings.HasSuffix(left, "\n") {
		left += strings.Repeat(" ", usageColumn)
	}
	b.WriteString(left + usage + "\n")
}
