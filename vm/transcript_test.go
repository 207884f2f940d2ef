//go:build linux

package vm_test

import (
	"fmt"
	"io"
	"strings"
)

// A transcript shows what a person at the machine sees.
type transcript struct {
	w    io.Writer
	now  *step
	next int // number of chunks of the step that were shown
}

func (t *transcript) step(s *step) {
	t.end()
	t.now, t.next = s, 0
	what := "a machine starts"
	if s.firmware {
		what = "somebody goes to the firmware's menu"
	}
	fmt.Fprintf(t.w, "\n---- %s: chip %s, disk %s ----\n", what, s.options["chip"], s.options["disk"])
}

// end shows the text after the last command of a step.
func (t *transcript) end() {
	if t.now == nil {
		return
	}
	for _, c := range t.now.chunks[t.next:] {
		if c.kind == prose {
			t.printChunk(c)
		}
	}
}

// show prints the scenario up to a command, and then output of the command.
func (t *transcript) show(c *chunk, output string) {
	for ; t.next < len(t.now.chunks) && t.now.chunks[t.next].line <= c.line; t.next++ {
		t.printChunk(t.now.chunks[t.next])
	}
	io.WriteString(t.w, output)
}

func (t *transcript) printChunk(c *chunk) {
	switch c.kind {
	case prose:
		if c.text != "" {
			fmt.Fprintf(t.w, "\n# %s\n", strings.ReplaceAll(c.text, "\n", "\n# "))
		}
	case menu:
		fmt.Fprintf(t.w, "(ESC, t, %s, ESC)\n", c.text)
	case command:
		fmt.Fprintf(t.w, "$ %s\n", strings.ReplaceAll(c.text, "\n", "\n> "))
	}
}
