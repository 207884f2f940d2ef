package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzReadSecretLine: a secret is its line without the line end and nothing else,
// and what follows is left for the next reader, however the bytes arrive.
func FuzzReadSecretLine(f *testing.F) {
	for _, seed := range []string{"", "\n", "\r\n", "a\r\n", "motdepasse\nautre\n", "a\rb\r\r\n", "no end", "no end\r",
		"\x00\xff\n", "\ufeffclé\r\n", strings.Repeat("x", maxSecret) + "\r\nrest", strings.Repeat("x", maxSecret+1) + "\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		want := line
		if ended {
			want = bytes.TrimSuffix(line, []byte("\r"))
		}
		in := bytes.NewReader(data)
		got, err := readSecretLine(in)
		halves, againErr := readSecretLine(iotest.HalfReader(bytes.NewReader(data)))
		if !bytes.Equal(got, halves) || (err == nil) != (againErr == nil) {
			t.Errorf("%q, %v; by halves %q, %v", got, err, halves, againErr)
		}
		switch {
		case len(data) == 0:
			if !errors.Is(err, io.EOF) {
				t.Errorf("nothing: %q, %v", got, err)
			}
		case len(want) > maxSecret:
			if err == nil || got != nil {
				t.Errorf("%d bytes: %q, %v", len(want), got, err)
			}
		default:
			left, _ := io.ReadAll(in)
			if err != nil || !bytes.Equal(got, want) || !bytes.Equal(left, rest) {
				t.Errorf("%q, %v, left %q; want %q, left %q", got, err, left, want, rest)
			}
		}
	})
}
