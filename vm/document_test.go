//go:build linux

package vm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// documentPath returns the path of the document of a scenario; empty if the scenario has no
// title.
func (s *scenario) documentPath() string {
	if len(s.steps[0].chunks) == 0 || !strings.HasPrefix(s.steps[0].chunks[0].text, "# ") {
		return ""
	}
	_, name, _ := strings.Cut(s.name, "-") // 1-tutorial
	return filepath.Join("../docs", name+".md")
}

// document returns the Markdown document of a scenario that has run: its text, the commands
// of 2010, and today's commands with their output.
func document(s *scenario) string {
	d := &documentWriter{}
	for _, step := range s.steps {
		for _, c := range step.chunks {
			switch c.kind {
			case prose:
				if c.text != "" {
					d.block("")
					d.WriteString("\n" + c.text + "\n")
				}
			case oldCommand:
				d.block("Then:")
				d.WriteString("# " + c.text + "\n")
			case command:
				switch d.open {
				case "":
					d.block(plain)
				case "Then:":
					d.block("Now:")
				}
				d.WriteString("# " + strings.ReplaceAll(c.text, "\n", "\n> ") + "\n" + c.output)
			}
		}
		d.block("")
	}
	return fmt.Sprintf(documentHead, s.name) + d.String()
}

const documentHead = "<!-- Made from what vm/scenarios/%s.sh printed, by make docs. -->\n"

// plain is the label of a block without a command of 2010.
const plain = "plain"

// A documentWriter puts commands into blocks.
type documentWriter struct {
	strings.Builder
	open string // label of the open block; empty if none is open
}

func (d *documentWriter) block(label string) {
	if d.open == label {
		return
	}
	if d.open != "" {
		d.WriteString("```\n")
	}
	switch label {
	case "":
	case plain:
		d.WriteString("\n```console\n")
	default:
		d.WriteString("\n" + label + "\n\n```console\n")
	}
	d.open = label
}

// variableText matches text that differs from run to run: numbers, times, fingerprints,
// encrypted file names.
var variableText = regexp.MustCompile(`ECRYPTFS_FNEK_ENCRYPTED\.\S+|[0-9a-f]{8}(-[0-9a-f]{8})+|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+|[0-9a-f]{16,}|[0-9][0-9.]*( ?[mµn]?s\b)?`)

// checkDocument compares the document of a scenario that has run with the one in docs/.
func checkDocument(s *scenario) error {
	path := s.documentPath()
	if path == "" {
		return nil
	}
	now := document(s)
	if *writeDocs {
		return os.WriteFile(path, []byte(now), 0o644)
	}
	then, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: make docs writes it", err)
	}
	was, is := strings.Split(mask(string(then)), "\n"), strings.Split(mask(now), "\n")
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			return fmt.Errorf("%s:%d is not what the commands print any more; look at it, and make docs:\n- %s\n+ %s", path, i+1, was[i], is[i])
		}
	}
	if len(was) != len(is) {
		return fmt.Errorf("%s has %d lines, and the commands print %d; look at it, and make docs", path, len(was), len(is))
	}
	return nil
}

// mask replaces the text that differs from run to run.
func mask(document string) string { return variableText.ReplaceAllString(document, "0") }
