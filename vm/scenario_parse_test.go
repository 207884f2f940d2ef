//go:build linux

package vm_test

import (
	"path/filepath"
	"strings"
	"testing"
)

const example = `# # A title
# and more
#@ boot chip=second slow=1s
ls
! false
expect 'a b'

# Two
# lines.
#< old
for f in a b; do
	echo $f
done
#> secret
keygen -a x
quiet true
#@ firmware keys=e
`

func TestParseScenario(t *testing.T) {
	s, err := parseScenario("1-example", example)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.steps) != 2 || !s.steps[1].firmware || s.steps[1].options["keys"] != "e" {
		t.Fatalf("steps: %+v", s.steps)
	}
	boot := s.steps[0]
	if boot.options["chip"] != "second" || boot.options["slow"] != "1s" || boot.options["disk"] != "first" || boot.line != 3 {
		t.Errorf("boot: %+v", boot)
	}
	want := []struct {
		kind chunkKind
		line int
		text string
	}{
		{prose, 1, "# A title\nand more"},
		{command, 4, "ls"}, {command, 5, "false"}, {check, 6, "expect 'a b'"},
		{prose, 8, "Two\nlines."}, {oldCommand, 10, "old"},
		{command, 11, "for f in a b; do\n\techo $f\ndone"}, {command, 15, "keygen -a x"}, {check, 16, "true"},
	}
	var got []*chunk
	for _, c := range boot.chunks {
		if c.text != "" {
			got = append(got, c)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d chunks, want %d", len(got), len(want))
	}
	for i, w := range want {
		if c := got[i]; c.kind != w.kind || c.line != w.line || c.text != w.text {
			t.Errorf("chunk %d: kind %d, line %d, %q; want %+v", i, c.kind, c.line, c.text, w)
		}
	}
	if got[2].result != "fails" || got[1].result != "works" || len(got[7].typed) != 1 {
		t.Errorf("fails and typed: %+v", got)
	}
}

func TestParseScenarioErrors(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"no machine", "# prose\n", "no machine"},
		{"command without machine", "ls\n", "1: a command"},
		{"command in the firmware", "#@ firmware keys=e\nls\n", "2: a command"},
		{"unknown step", "#@ sleep\n", "1: #@ sleep"},
		{"no step", "#@ \n", "1: #@ "},
		{"no blank", "#@boot\nls\n#@\n", "3: #@ "},
		{"unknown TPM", "#@ boot tpm=3\n", "neither 1.2 nor 2.0"},
		{"unknown bus", "#@ boot bus=lpc\n", "neither tis nor crb"},
		{"unknown waking", "#@ boot wake=late\n", "wake=late is not known"},
		{"answers to a check", "#@ boot\n#> a\nexpect b\n", "3: nobody can type"},
		{"unknown option", "#@ boot color=red\n", `1: #@ boot: unknown option "color=red"`},
		{"half a command", "#@ boot\nif true; then\n", "2: not a shell command"},
		{"trailing backslash", "#@ boot\nls \\", "2: "},
	} {
		_, err := parseScenario("x", row.text)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

// The scenarios themselves; make vm-test runs them.
func TestScenariosParse(t *testing.T) {
	paths, err := filepath.Glob("scenarios/*.sh")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		s, err := readScenario(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if complete(guestScript(s.steps[0])) != nil {
			t.Errorf("%s: its script is not one", path)
		}
	}
}

func TestReadConsole(t *testing.T) {
	s, err := parseScenario("x", "#@ boot\nls\npwd\n")
	if err != nil {
		t.Fatal(err)
	}
	console := "SeaBIOS\r\nBooting from ROM..\r\x1ebegin 0\r\na\r\nb\r\n\x1eend 0\r\n[ 1.0] oops\r\n\x1ebegin 1\r\n/root\r\n\x1eend 1\r\n"
	var shown strings.Builder
	before, err := readConsole(strings.NewReader(console), s.steps[0], func(_ *chunk, text string) { shown.WriteString(text) })
	if err != nil {
		t.Fatal(err)
	}
	if before != "" {
		t.Errorf("before: %q", before)
	}
	if before, err := readConsole(strings.NewReader("SeaBIOS\r\nKernel panic\r\n"), s.steps[0], nil); err != nil || before != "\nSeaBIOS\nKernel panic" {
		t.Errorf("without a command: %q, %v", before, err)
	}
	if got := s.steps[0].chunks[0].output; got != "a\nb\n" {
		t.Errorf("ls printed %q", got)
	}
	if got := s.steps[0].chunks[1].output; got != "/root\n" {
		t.Errorf("pwd printed %q", got)
	}
	if shown.String() != "a\nb\n[ 1.0] oops\n/root\n" {
		t.Errorf("shown: %q", shown.String())
	}
}

func TestDocument(t *testing.T) {
	s, err := parseScenario("1-example", "# # Title\n#@ boot\n# Words.\n#< old\nls\npwd\nexpect x\n\n# More.\nid\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.steps[0].chunks {
		c.output = map[string]string{"ls": "took 3.1 ms\n", "id": "00:AB:cd\n"}[c.text]
	}
	if got := s.documentPath(); got != "../docs/example.md" {
		t.Errorf("path %q", got)
	}
	want := "\n# Title\n\nWords.\n\nThen:\n\n```console\n# old\n```\n\nNow:\n\n```console\n# ls\ntook 3.1 ms\n# pwd\n```\n\n" +
		"More.\n\n```console\n# id\n00:AB:cd\n```\n"
	_, got, _ := strings.Cut(document(s), "-->\n")
	if got != want {
		t.Errorf("document:\n%s\nwant:\n%s", got, want)
	}
	if a, b := mask(got), mask(strings.NewReplacer("3.1 ms", "12 µs", "00:AB:cd", "FF:00:11").Replace(got)); a != b {
		t.Errorf("masked, they differ:\n%s\n%s", a, b)
	}
}

func TestScreenLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\r": "a", "": "", "long… 1 s\r          \rdone": "done", "abc\rx": "xbc", "working… \r         \r": "", "é\re ": "e", "\x1b[2mdim\x1b[0m": "dim",
	} {
		if got, _ := screenLine(in); got != want {
			t.Errorf("%q leaves %q, want %q", in, got, want)
		}
	}
}
