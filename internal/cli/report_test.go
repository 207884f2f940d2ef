package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"maclef/tpmkey"
)

func TestHintFor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		args []string
		want string
	}{
		{"flag not given", tpmkey.ErrWrongSRKSecret, nil, "well-known secret; try -srk-pass prompt"},
		{"flag given", tpmkey.ErrWrongSRKSecret, []string{"-srk-pass", "prompt"}, "another secret than -srk-pass says"},
		{"given with two dashes", tpmkey.ErrWrongSRKSecret, []string{"--srk-pass=prompt"}, "another secret than -srk-pass says"},
		{"behind --", tpmkey.ErrWrongSRKSecret, []string{"--", "-srk-pass"}, "try -srk-pass prompt"},
		{"unknown", errors.New("odd"), nil, ""},
		{"own hint first", WithHint(tpmkey.ErrNotOwned, "mine"), nil, "mine"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Hint(fmt.Errorf("load maclef: %w", test.err), test.args)
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A broken pipe is quiet only where it is standard output that broke: a TPM's
// socket can break, too.
func TestReportBrokenPipe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		err   error
		quiet bool
	}{
		{"standard output", fmt.Errorf("write: %w", &stdoutError{err: syscall.EPIPE}), true},
		{"TPM", fmt.Errorf("send: %w", syscall.EPIPE), false},
		{"full disk", &stdoutError{err: syscall.ENOSPC}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr bytes.Buffer
			if status := report("x", nil, test.err, &stderr); status != exitFailed || (stderr.Len() == 0) != test.quiet {
				t.Errorf("status %d, %q", status, stderr.String())
			}
		})
	}
}

func TestWithoutPath(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT},
		&os.LinkError{Op: "link", Old: "a", New: "b", Err: syscall.ENOENT},
		&os.SyscallError{Syscall: "ioctl", Err: syscall.ENOENT},
		syscall.ENOENT,
	} {
		if got := withoutPath(err); got != syscall.ENOENT {
			t.Errorf("%T: %v", err, got)
		}
	}
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{5: "5 bytes", 1000: "1000 bytes", 1 << 10: "1 KiB", 3 << 20: "3 MiB", 1<<20 + 1: "1048577 bytes"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestWrapWords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{""}},
		{"fits", "one two", []string{"one two"}},
		{"exactly", "été été 12", []string{"été été 12"}},
		{"breaks", "one two three four", []string{"one two", "three four"}},
		{"long word", "a incomprehensibility b", []string{"a", "incomprehensibility", "b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := wrapWords(test.text, 10); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
