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

//go:embed guest/functions
var guestFunctions string

// guestScript returns the script that the machine of a step runs.
func guestScript(s *step) string {
	var b strings.Builder
	b.WriteString("cd /root\n. /guest/functions\n")
	for i, c := range s.chunks {
		switch c.kind {
		case command:
			fmt.Fprintf(&b, "begin %d\n{\n%s\n} >/tmp/.out 2>&1\nfinish %d $? %s %d\n", i, shellText(c), i, c.result, c.line)
		case check:
			if isBuiltin(c.text) {
				fmt.Fprintf(&b, "LINE=%d\n%s\n", c.line, c.text)
			} else {
				fmt.Fprintf(&b, "{\n%s\n} >/tmp/.quiet 2>&1\nquietly $? %d\n", c.text, c.line)
			}
		}
	}
	b.WriteString("echo all done >/dev/ttyS1\n")
	return b.String()
}

// shellText returns the text of a command for the shell.
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

// quote makes one shell word of a text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// isBuiltin reports whether a check is a function that itself ends the machine if it fails.
func isBuiltin(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return word == "expect" || word == "reject" || word == "await"
}

// readConsole stores the output of each command of a step in its chunk, and passes it to
// show as it comes. It does not show the text before the first command, such as the
// firmware's messages. It returns that text if no command starts.
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
		if _, mark, ok := strings.Cut(lines.Text(), "\x1e"); ok { // the line may begin with text of the firmware
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
		show(now, line+"\n") // also messages of the kernel between commands
	}
	return before, lines.Err()
}

// colours matches terminal sequences that change colours.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// screenLine returns what a line leaves on a screen: carriage returns go back to its
// beginning. It drops colours. repainted reports whether the line has such carriage
// returns.
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
