//go:build linux

package vm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A scenario is a script for one or more machines. Its file contains:
//
//	# text for the reader, with empty lines between paragraphs
//	#< a command of 2010, which the next commands replace
//	#@ boot key=value …       a machine starts and runs what follows
//	#@ firmware key=value …   somebody opens the firmware's menu
//	#> text                   what somebody types when the next command asks; "#>" alone is
//	                          a terminal where nobody types
//	command                   must succeed
//	! command                 must fail, but not with 2, the status of a wrong command line
//	!2 command                must fail with 2
//	expect REGEXP             must match the last command's output
//	reject REGEXP             must not match it
//	await SECONDS COMMAND     waits until the command succeeds
//	quiet COMMAND             must succeed; its output is shown only if it does not
type scenario struct {
	name  string
	steps []*step
}

// A step is the run of one machine.
type step struct {
	line     int
	firmware bool
	options  map[string]string
	limit    time.Duration // how long the machine may run
	chunks   []*chunk
}

// sleeps reports whether the machine of a step sleeps and wakes up.
func (s *step) sleeps() bool {
	return slices.ContainsFunc(s.chunks, func(c *chunk) bool { return c.text == "asleep" })
}

// A chunk is a part of a step: a paragraph, a command of 2010, or a command for the
// machine.
type chunk struct {
	kind   chunkKind
	line   int
	text   string
	result string // expected result of a command: "works", "fails" or "misused"
	typed  []string
	output string // of a command that has run
}

type chunkKind int

const (
	prose chunkKind = iota
	oldCommand
	command
	check // a command that is not shown
	menu  // a visit to the firmware's menu
)

func readScenario(path string) (*scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".sh")
	s, err := parseScenario(name, string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return s, nil
}

// parseScenario parses a scenario. Its errors begin with a line number.
func parseScenario(name, text string) (*scenario, error) {
	s := &scenario{name: name}
	now := &step{} // the text before the first machine
	var preface []*chunk
	var typed []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line, number := lines[i], i+1
		switch {
		case strings.HasPrefix(line, "#@"):
			now.addWords(number, "")
			next, err := parseStep(line[2:])
			if err != nil {
				return nil, fmt.Errorf("%d: %w", number, err)
			}
			if len(s.steps) == 0 {
				preface = now.chunks
			}
			now, next.line = next, number
			now.chunks, preface = preface, nil
			if next.firmware {
				now.chunks = append(now.chunks, &chunk{kind: menu, line: number, text: next.options["keys"]})
			}
			s.steps = append(s.steps, now)
		case strings.HasPrefix(line, "#!"):
		case strings.HasPrefix(line, "#< "):
			now.chunks = append(now.chunks, &chunk{kind: oldCommand, line: number, text: line[3:]})
		case line == "#>":
			typed = []string{}
		case strings.HasPrefix(line, "#> "):
			typed = append(typed, line[3:])
		case strings.HasPrefix(line, "#"):
			now.addWords(number, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		case strings.TrimSpace(line) == "":
			now.addWords(number, "")
		case len(s.steps) == 0 || now.firmware:
			return nil, fmt.Errorf("%d: a command, and no machine to run it in: #@ boot starts one", number)
		default:
			c, more, err := parseCommand(lines[i:])
			if err != nil {
				return nil, fmt.Errorf("%d: %w", number, err)
			}
			if typed != nil && c.kind != command {
				return nil, fmt.Errorf("%d: nobody can type the answers above to this", number)
			}
			c.line, c.typed, typed = number, typed, nil
			now.chunks = append(now.chunks, c)
			i += more
		}
	}
	if len(s.steps) == 0 {
		return nil, fmt.Errorf("1: no machine is started: #@ boot starts one")
	}
	return s, nil
}

// addWords adds a line to the last paragraph. An empty line ends a paragraph.
func (s *step) addWords(line int, text string) {
	last := len(s.chunks) - 1
	if last >= 0 && s.chunks[last].kind == prose && s.chunks[last].text != "" {
		if text == "" {
			s.chunks = append(s.chunks, &chunk{kind: prose, line: line})
			return
		}
		s.chunks[last].text += "\n" + text
		return
	}
	if text != "" {
		s.chunks = append(s.chunks, &chunk{kind: prose, line: line, text: text})
	}
}

// stepOptions are the options of #@ boot and #@ firmware.
var stepOptions = map[string]bool{
	"chip": true, // name of the chip, "none" for no chip; "first" by default
	"tpm":  true, // generation of a new chip, 1.2 or 2.0
	"bus":  true, // tis or crb: interface of the chip; most TPM 2.0 inside a processor are crb
	"disk": true, // name of the disk; "first" by default
	"slow": true, // additional time of each command after a key was loaded, such as 1s
	"wake": true, // unstarted: the firmware does not start the chip when the machine wakes up
	"keys": true, // firmware: keys to press
	"for":  true, // how long the machine may run, such as 5m; 3m by default
}

func parseStep(line string) (*step, error) {
	fields := append(strings.Fields(line), "") // so that there is a first field
	s := &step{options: map[string]string{"chip": "first", "disk": "first", "tpm": "1.2", "bus": "tis", "for": "3m"}}
	switch fields[0] {
	case "boot":
	case "firmware":
		s.firmware = true
	default:
		return nil, fmt.Errorf("#@ %s: only #@ boot and #@ firmware are known", fields[0])
	}
	for _, field := range fields[1 : len(fields)-1] {
		key, value, ok := strings.Cut(field, "=")
		if !ok || !stepOptions[key] {
			return nil, fmt.Errorf("#@ %s: unknown option %q", fields[0], field)
		}
		s.options[key] = value
	}
	if v := s.options["tpm"]; v != "1.2" && v != "2.0" {
		return nil, fmt.Errorf("#@ %s: tpm=%s is neither 1.2 nor 2.0", fields[0], v)
	}
	if v := s.options["bus"]; v != "tis" && v != "crb" {
		return nil, fmt.Errorf("#@ %s: bus=%s is neither tis nor crb", fields[0], v)
	}
	if v, ok := s.options["wake"]; ok && v != "unstarted" {
		return nil, fmt.Errorf("#@ %s: wake=%s is not known, only wake=unstarted", fields[0], v)
	}
	var err error
	if s.limit, err = time.ParseDuration(s.options["for"]); err != nil {
		return nil, fmt.Errorf("#@ %s: %w", fields[0], err)
	}
	return s, nil
}

// parseCommand parses a command, which may take several lines. It returns the number of
// additional lines.
func parseCommand(lines []string) (*chunk, int, error) {
	c := &chunk{kind: command, result: "works"}
	first := lines[0]
	switch word, rest, _ := strings.Cut(first, " "); word {
	case "!":
		c.result, first = "fails", rest
	case "!2":
		c.result, first = "misused", rest
	case "quiet":
		c.kind, first = check, rest
	case "expect", "reject", "await":
		c.kind = check
	}
	c.text = first
	var incomplete error
	for more := 0; ; more++ {
		if incomplete = complete(c.text); incomplete == nil {
			return c, more, nil
		}
		if more+1 >= len(lines) || strings.HasPrefix(lines[more+1], "#@") {
			return nil, 0, incomplete
		}
		c.text += "\n" + lines[more+1]
	}
}

// complete returns an error if text is not a complete shell command.
func complete(text string) error {
	if strings.HasSuffix(text, "\\") {
		return fmt.Errorf("the last line ends in a backslash")
	}
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader("{\n" + text + "\n}\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("not a shell command: %s", bytes.TrimSpace(out))
	}
	return nil
}
