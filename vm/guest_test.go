//go:build linux

package vm_test

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

//go:embed guest/init
var guestInit string

//go:embed guest/words
var guestWords string

// guestScript is what the machine of a step runs.
func guestScript(s *step) string {
	var b strings.Builder
	b.WriteString("cd /root\n. /guest/words\n")
	for i, c := range s.chunks {
		switch c.kind {
		case command:
			fmt.Fprintf(&b, "begin %d\n{\n%s\n} >/tmp/.out 2>&1\nfinish %d $? %s %d\n", i, shellText(c), i, c.result, c.line)
		case check:
			if ownCheck(c.text) {
				fmt.Fprintf(&b, "LINE=%d\n%s\n", c.line, c.text)
			} else {
				fmt.Fprintf(&b, "{\n%s\n} >/tmp/.quiet 2>&1\nquietly $? %d\n", c.text, c.line)
			}
		}
	}
	b.WriteString("echo all done >/dev/ttyS1\n")
	return b.String()
}

// shellText is what the shell is given for a command.
func shellText(c *chunk) string {
	if c.typed == nil {
		return c.text
	}
	text := "typing " + quote(c.text)
	for _, answer := range c.typed {
		text += " " + quote(answer)
	}
	return text
}

// quote makes text one word for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// ownCheck reports whether a check is one of those that end the machine
// themselves.
func ownCheck(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return word == "expect" || word == "reject" || word == "await"
}

// readConsole gives each command of a step its output, and tells show what
// happens as it does. What stands before the first command, the firmware's
// greetings, is not shown, but returned if there is no command at all.
func readConsole(console io.Reader, s *step, show func(*chunk, string)) (before string, err error) {
	var now *chunk
	defer func() {
		if now != nil {
			before = ""
		}
	}()
	running := false
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, repainted := screenLine(lines.Text())
		if _, mark, ok := strings.Cut(lines.Text(), "\x1e"); ok { // the firmware may have left a line half written
			verb, number, _ := strings.Cut(strings.TrimRight(mark, "\r"), " ")
			i, err := strconv.Atoi(number)
			if err != nil || i < 0 || i >= len(s.chunks) {
				return before, fmt.Errorf("the machine wrote %q", line)
			}
			if now, running = s.chunks[i], verb == "begin"; running {
				show(now, "")
			}
			continue
		}
		if now == nil {
			before += "\n" + line
			continue
		}
		if repainted && line == "" || strings.HasSuffix(line, "reboot: Power down") {
			continue
		}
		if running {
			now.output += line + "\n"
		}
		show(now, line+"\n") // also what the kernel says in between
	}
	return before, lines.Err()
}

// colours matches what changes how text looks on a terminal.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// screenLine is what a line leaves on a screen, where carriage returns go back
// to its beginning, and whether any do. It drops colours.
func screenLine(line string) (left string, repainted bool) {
	var screen []rune
	line = colours.ReplaceAllString(line, "")
	parts := strings.Split(strings.TrimRight(line, "\r"), "\r")
	for _, part := range parts {
		over := []rune(part)
		if len(over) > len(screen) {
			screen = over
		}
		copy(screen, over)
	}
	if len(parts) > 1 {
		return strings.TrimRight(string(screen), " "), true
	}
	return parts[0], false
}
