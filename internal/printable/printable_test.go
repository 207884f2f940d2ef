package printable

import (
	"strings"
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain été 鍵":   "plain été 鍵",
		"a\x1b[2Jb\x07": `a\x1b[2Jb\a`,
		"one\ntwo\n":    "one\n  two",
		"bad \xff utf8": "bad \uFFFD utf8",
		"\u202eright":   `\u202eright`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	if got := Line("é\x1b[2J\u202e\u009b\n\xff"); got != `é\x1b[2J\u202e\u009b\n`+"\uFFFD" {
		t.Errorf("%q", got)
	}
}

func TestASCII(t *testing.T) {
	for in, want := range map[string]string{"IFX\x00": "IFX", "I\x1b]X": "I]X", " \x7f\xff": "", "": ""} {
		if got := ASCII([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzText: what others say cannot move the cursor of a terminal, nor pass
// for a line of ours.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "clé", "a\nb\n\n", "\x1b[2J", "\r", "\u202e", "\x9b1m", "\xff\xfe", "\u2028", "\x00", "\t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, line := range strings.Split(Text(text), "\n") {
			if i > 0 && !strings.HasPrefix(line, "  ") {
				t.Errorf("%q: line %d is %q", text, i, line)
			}
			for _, r := range line {
				if !unicode.IsPrint(r) {
					t.Errorf("%q: has %U", text, r)
				}
			}
		}
	})
}
