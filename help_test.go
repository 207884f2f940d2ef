package maclef_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"maclef/internal/tpmtest"
)

var updateHelp = flag.Bool("update", false, "write docs/commands.md from what -h prints")

const helpBegins = "<!-- What follows is made from -h, by go test -run TestHelpPage -update . -->\n"

// TestHelpPage checks that docs/commands.md has what -h prints.
func TestHelpPage(t *testing.T) {
	tpmtest.Long(t, "it does all that a newcomer does")
	r := newReader(t)
	before, got, _ := strings.Cut(readPage(t, "docs/commands.md"), helpBegins)
	want := r.help()
	if *updateHelp {
		if err := os.WriteFile("docs/commands.md", []byte(before+helpBegins+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("docs/commands.md does not have what -h prints: run go test -run TestHelpPage -update .")
	}
}

// help is what all commands print for -h. The forms of a SECRET are there once.
func (r *reader) help() string {
	secrets := regexp.MustCompile(`(?s)\nSECRET is one of\n.*?\nstand on the command line\.\n`)
	var b strings.Builder
	forms := ""
	for _, command := range r.commands() {
		text := r.run(command + " -h")
		if found := secrets.FindString(text); found != "" {
			forms = found
		}
		b.WriteString("\n## " + command + "\n\n```text\n" + secrets.ReplaceAllString(text, "") + "```\n")
	}
	return "\n## Secrets\n\n```text" + forms + "```\n" + b.String()
}

// commands are all commands, with tpmctl's subcommands.
func (r *reader) commands() []string {
	all := []string{"keygen", "certgen", "tlsdemo", "ecryptmount", "tpmctl"}
	_, list, _ := strings.Cut(r.run("tpmctl -h"), "Subcommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, line := range strings.Split(list, "\n") {
		all = append(all, "tpmctl "+strings.Fields(line)[0])
	}
	return all
}

// TestHelpExamples runs the examples that -h prints.
func TestHelpExamples(t *testing.T) {
	tpmtest.Long(t, "it does all that a newcomer does")
	r := newReader(t)
	new := r.with(t, filepath.Join(r.home, "new"), "emulator2:"+filepath.Join(r.home, "tpm20"))
	old := r.with(t, filepath.Join(r.home, "old"), "emulator:"+filepath.Join(r.home, "tpm12"))
	new.run("keygen maclef", "certgen", "echo bonjour | tee letter.txt secret > secret.txt", "openssl genrsa -out private.pem 2048",
		"tpmctl encrypt -key maclef -in secret.txt -out secret.bin", "tpmctl seal -in secret -out sealed.tss", "rm moncert")
	n := 0
	for _, command := range r.commands() {
		_, examples, _ := strings.Cut(r.run(command+" -h"), "\nExample:\n")
		for _, example := range typed(examples, "  $ ") {
			n++
			here := *new
			t.Run(example, func(t *testing.T) {
				switch {
				case strings.Contains(example, "-e oaep"):
					here = *old
				case regexp.MustCompile("tpmctl (own|.*able|.*activate|clear|reset)").MatchString(example): // a TPM of its own
					here = *old.with(t, old.dir, "emulator:"+t.TempDir()+"/tpm")
				}
				here.t = t
				here.example(example)
			})
		}
	}
	if n < 40 {
		t.Errorf("only %d examples", n)
	}
}

// example runs an example, changed where it needs a person, another machine or root.
func (r *reader) example(line string) {
	r.t.Helper()
	switch {
	case strings.HasPrefix(line, "ecryptmount"), strings.HasPrefix(line, "umount"), strings.HasPrefix(line, "curl"):
		return // run by the scenarios of vm/, and by README.md
	case strings.HasPrefix(line, "tlsdemo"):
		r.run("certgen -force", strings.Replace(line, "4433", "0", 1)+" 2>log &", "until grep serving log; do sleep 0.1; done")
		return
	case strings.Contains(line, "handle:"):
		r.run("! "+line+" 2>err", "grep 'no key there' err")
		return
	case strings.HasPrefix(line, "tpmctl own"):
		r.run("! "+line+" 2>err", "grep 'has an owner already' err")
		return
	case strings.Contains(line, " -a "):
		line += " -key-pass pass:motdepasse"
	case strings.HasPrefix(line, "tpmctl decrypt -oaep"):
		r.run("tpmctl encrypt -oaep -hash sha256 -in secret.txt -out secret.bin -force")
	case strings.Contains(line, "theirs.csr"):
		r.run("openssl req -newkey rsa:2048 -nodes -keyout theirs.key -subj /CN=x -out theirs.csr")
	case strings.Contains(line, "revoked.txt"):
		r.run("echo 3f9a06 > revoked.txt")
	case strings.HasPrefix(line, "tpmctl decrypt"):
		r.run("tpmctl encrypt -in secret.txt -out secret.bin -force")
	}
	for _, adapt := range [][2]string{
		{"-owner-pass prompt", "-owner-pass wellknown"}, {"-owner-pass file:secret", "-owner-pass wellknown"},
		{"reset-lockout", "reset-lockout -owner-pass wellknown"},
	} {
		line = strings.Replace(line, adapt[0], adapt[1], 1)
	}
	if line == "tpmctl clear" {
		line = "tpmctl clear -yes -force"
	}
	if regexp.MustCompile("^(keygen|certgen)|-out").MatchString(line) {
		line += " -force"
	}
	r.run(line)
}
