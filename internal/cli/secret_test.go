package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"maclef/tpmkey"
)

func TestReadSecretLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxSecret)
	tests := []struct {
		name, input, want, left string
		err                     string
	}{
		{name: "line", input: "a\nb\n", want: "a", left: "b\n"},
		{name: "CR LF", input: "a\r\nb", want: "a", left: "b"},
		{name: "CR inside", input: "a\rb\r\r\n", want: "a\rb\r"},
		{name: "no line end", input: "a", want: "a"},
		{name: "no line end but CR", input: "a\r", want: "a\r"},
		{name: "empty line", input: "\nb", want: "", left: "b"},
		{name: "empty CR LF line", input: "\r\nb", want: "", left: "b"},
		{name: "spaces kept", input: " a \n", want: " a "},
		{name: "zero bytes", input: "a\x00b\n", want: "a\x00b"},
		{name: "longest", input: long + "\n", want: long},
		{name: "longest CR LF", input: long + "\r\nb", want: long, left: "b"},
		{name: "longest without end", input: long, want: long},
		{name: "nothing", input: "", err: "EOF"},
		{name: "too long", input: long + "x\n", err: "line is longer than 4096 bytes", left: ""},
		{name: "endless", input: long + long, err: "line is longer than 4096 bytes", left: long[2:]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := strings.NewReader(test.input)
			got, err := readSecretLine(r)
			if string(got) != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("got %.20q, %v; want %.20q, %s", got, err, test.want, test.err)
			}
			if left, _ := io.ReadAll(r); string(left) != test.left {
				t.Errorf("left %.20q, want %.20q", left, test.left)
			}
		})
	}
}

func TestReadSecretLineErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if got, err := readSecretLine(iotest.ErrReader(broken)); got != nil || !errors.Is(err, broken) {
		t.Errorf("got %q, %v", got, err)
	}
	half := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))
	if got, err := readSecretLine(half); got != nil || !errors.Is(err, broken) {
		t.Errorf("half a line: got %q, %v", got, err)
	}
	if got, err := readSecretLine(iotest.DataErrReader(bufio.NewReader(strings.NewReader("a\n")))); err != nil || string(got) != "a" {
		t.Errorf("data with EOF: got %q, %v", got, err)
	}
}

func FuzzParseSecretSpec(f *testing.F) {
	for _, seed := range []string{
		"wellknown", "prompt", "stdin", "pass:", "pass:a:b", "env:VAR", "file:/dev/fd/3", "fd:3", "fd:0", "fd:-1",
		"fd:99999999999", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha1:da39", "utf16:prompt", "utf16:pass:é",
		"hex:0102fF", "hex:", "hex:1", "utf16:hex:01", "utf16:utf16:prompt", "utf16:wellknown", "utf16:sha1:", "hunter2", "", ":", "pass", "env:A=B",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := parseSecretSpec(text)
		if err != nil {
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%T is not a usage error", err)
			}
			if marked, err := parseSecretSpec("QZ7" + text); err == nil || marked != (secretSpec{}) || strings.Contains(err.Error(), "QZ7") {
				t.Errorf("error repeats the text: %v", err)
			}
			return
		}
		wide := strings.HasPrefix(text, "utf16:")
		rest := strings.TrimPrefix(text, "utf16:")
		if spec.utf16 != wide || wide && (spec.form == formWellKnown || spec.form == formSHA1 || spec.form == formHex) {
			t.Errorf("%q: utf16 %v, form %d", text, spec.utf16, spec.form)
		}
		if spec.form == formPass && "pass:"+spec.arg != rest {
			t.Errorf("%q: the text became %q", text, spec.arg)
		}
		if spec.isLine() != (spec.source() != "") || spec.fd < 0 || spec.fd > maxFD || len(spec.arg) > len(text) {
			t.Errorf("%q: %+v", text, spec)
		}
	})
}

// Secrets never show in what a flag prints of itself.
func TestSecretFlagString(t *testing.T) {
	t.Parallel()
	fs := NewEnv("test", nil, io.Discard, io.Discard).Flags()
	s := fs.KeyPass()
	for text, want := range map[string]string{
		"prompt": "prompt", "wellknown": "wellknown", "pass:hunter2": "(hidden)", "hex:0102": "(hidden)", "utf16:pass:hunter2": "(hidden)",
		"sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709": "(hidden)",
	} {
		if err := s.Set(text); err != nil || s.String() != want {
			t.Errorf("%s: %v, %q", text, err, s.String())
		}
	}
}

// Secrets that are needed at the same time get their own lines of standard input.
func TestSecretsConcurrently(t *testing.T) {
	want := map[*SecretFlag]string{}
	var input strings.Builder
	env := NewEnv("test", nil, io.Discard, io.Discard)
	fs := env.Flags()
	var args []string
	for i := range 8 {
		text := strings.Repeat("x", i)
		name := "pass" + text
		want[fs.Secret(name, SecretOptions{Default: "prompt"}, "")] = text
		args = append(args, "-"+name, "stdin")
		input.WriteString(text + "\n")
	}
	env.Stdin = strings.NewReader(input.String())
	if _, err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for flag, text := range want {
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				got, err := flag.Resolve()
				if err != nil || !got.Equal(tpmkey.Password([]byte(text))) {
					t.Errorf("%s: %v", text, err)
				}
			}()
		}
	}
	all.Wait()
}

// Secrets of files are read again, in lines as before; nobody is asked again.
func TestRereadSecrets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := NewEnv("test", strings.NewReader("typed\n"), io.Discard, io.Discard)
	fs := env.Flags()
	srk, key, piped := fs.SRKPass(), fs.KeyPass(), fs.Secret("other-pass", SecretOptions{Default: "prompt"}, "")
	if _, err := fs.Parse([]string{"-srk-pass", "file:" + path, "-key-pass", "file:" + path, "-other-pass", "stdin"}); err != nil {
		t.Fatal(err)
	}
	check := func(flag *SecretFlag, want string) {
		t.Helper()
		if got, err := flag.Resolve(); err != nil || !got.Equal(tpmkey.Password([]byte(want))) {
			t.Errorf("not %q: %v", want, err)
		}
	}
	write("a\nb\n")
	check(srk, "a") // the file stays open for the other one
	check(piped, "typed")
	write("c\nd\n")
	check(srk, "a")
	old := srk.value
	fs.RereadSecrets()()
	check(key, "d")
	line := srk.line.text
	fs.RereadSecrets()()
	if old.Equal(tpmkey.Password([]byte("a"))) || line[0] != 0 {
		t.Error("the old secrets are not cleared")
	}
	check(srk, "c")
	check(piped, "typed")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fs.RereadSecrets()()
	if _, err := key.Resolve(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	write("e\nf\n")
	fs.RereadSecrets()()
	check(key, "f")
}

// While nobody attends, nothing waits for a person, or for the writer of a pipe.
func TestUnattended(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if out, err := exec.Command("mkfifo", pipe).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("SSH_ASKPASS", "echo")
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	env := NewEnv("test", strings.NewReader("typed\nmore\n"), io.Discard, io.Discard)
	fs := env.Flags()
	srk, key, line := fs.SRKPass(), fs.KeyPass(), fs.Secret("other-pass", SecretOptions{Default: "prompt"}, "")
	if _, err := fs.Parse([]string{"-srk-pass", "file:" + pipe, "-other-pass", "stdin"}); err != nil {
		t.Fatal(err)
	}
	attended := env.Unattended()
	for _, s := range []*SecretFlag{key, line} {
		if _, err := s.Resolve(); !errors.Is(err, ErrUnattended) {
			t.Error(err)
		}
	}
	if _, err := srk.Resolve(); !errors.Is(err, ErrReadOnce) {
		t.Error(err)
	}
	for _, path := range []string{pipe, os.DevNull, "-"} {
		if _, err := env.ReadInput(path, 100, "word"); !errors.Is(err, ErrReadOnce) {
			t.Errorf("%s: %v", path, err)
		}
	}
	attended()
	if got, err := key.Resolve(); err != nil || got.IsZero() {
		t.Errorf("the answer of nobody was kept: %v", err)
	}
	if got, err := line.Resolve(); err != nil || !got.Equal(tpmkey.Password([]byte("typed"))) {
		t.Errorf("a line of nobody was kept: %v", err)
	}
	if text, err := env.ReadInput("-", 100, "word"); err != nil || string(text) != "more\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// A pipe is not read again.
func TestRereadSecretsOfPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.WriteString(w, "first\n")
	w.Close()
	env := NewEnv("test", nil, io.Discard, io.Discard)
	fs := env.Flags()
	key := fs.KeyPass()
	if _, err := fs.Parse([]string{"-key-pass", fmt.Sprintf("file:/dev/fd/%d", r.Fd())}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := key.Resolve(); err != nil || !got.Equal(tpmkey.Password([]byte("first"))) {
			t.Error(err)
		}
		fs.RereadSecrets()()
	}
}
