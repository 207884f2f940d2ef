package cli

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// A form is a way to give a secret on the command line.
type form int

const (
	formWellKnown form = iota // TCG's 20 zero bytes
	formPrompt                // ask on the terminal
	formPopup                 // ask in a window; only UsePopup sets it
	formPass                  // in the argument itself
	formHex                   // in the argument itself, as hexadecimal digits
	formEnv                   // in an environment variable
	formFile                  // a line of a file
	formFD                    // a line of an inherited file descriptor
	formStdin                 // a line of standard input
	formSHA1                  // a SHA-1 digest of the secret
)

// A secretSpec is a parsed SECRET: where the secret comes from. It contains the secret
// itself only for pass:, hex: and sha1:.
type secretSpec struct {
	form   form
	utf16  bool   // hash the text as UTF-16LE
	arg    string // hex: the bytes, decoded
	fd     int
	digest [sha1.Size]byte
}

// maxFD is the maximum of fd:N; no system opens more by default.
const maxFD = 1 << 20

// secretUsage explains SECRET in usage texts.
const secretUsage = `SECRET is one of
  wellknown   the well-known secret, 20 zero bytes; TPM 2.0: the empty one
  prompt      asked on the terminal, without echo
  pass:TEXT   TEXT itself (others may see it in the process list)
  hex:DIGITS  bytes, as hexadecimal digits: hex:0102ff (others may see it)
  env:VAR     the value of an environment variable, which may be empty
  file:PATH   the first line of a file, without its line end; a new secret must
              be the only line
  fd:N        the next line of an inherited file descriptor
  stdin       the next line of standard input
  sha1:HEX    the 20 bytes themselves, as 40 hexadecimal digits (TPM 1.2)
utf16: in front of a text (utf16:prompt, utf16:pass:TEXT, ...) hashes it as
UTF-16LE: secrets of a TPM 1.2 set by tpm-tools -u or in a pop-up window. Flags
that name the same file, descriptor or stdin take successive lines, as they
stand on the command line.
`

// parseSecretSpec parses a SECRET. Its error is a [UsageError] that does not contain the
// text, because that may be a password.
func parseSecretSpec(text string) (secretSpec, error) {
	rest, wide := strings.CutPrefix(text, "utf16:")
	kind, arg, hasArg := strings.Cut(rest, ":")
	spec := secretSpec{utf16: wide, arg: arg}
	switch {
	case kind == "wellknown" && !hasArg:
		spec.form = formWellKnown
	case kind == "prompt" && !hasArg:
		spec.form = formPrompt
	case kind == "stdin" && !hasArg:
		spec.form = formStdin
	case kind == "pass" && hasArg:
		spec.form = formPass
	case kind == "hex" && hasArg:
		spec.form = formHex
	case kind == "env" && hasArg:
		spec.form = formEnv
	case kind == "file" && hasArg:
		spec.form = formFile
	case kind == "fd" && hasArg:
		spec.form = formFD
	case kind == "sha1" && hasArg:
		spec.form = formSHA1
	default:
		return secretSpec{}, &UsageError{
			Text:   "not a way to give a secret (the text is not repeated here)",
			Advice: "a password itself is written pass:TEXT; other ways are prompt, env:VAR, file:PATH, fd:N, stdin, hex:DIGITS, sha1:HEX, wellknown",
		}
	}
	if err := spec.check(); err != nil {
		return secretSpec{}, err
	}
	return spec, nil
}

// check parses the argument of the forms that have one.
func (s *secretSpec) check() error {
	switch {
	case s.utf16 && s.form == formWellKnown:
		return Usagef("utf16: goes with a text, and the well-known secret is 20 zero bytes: write wellknown")
	case s.utf16 && s.form == formSHA1:
		return Usagef("utf16: goes with a text, and sha1: is a digest already")
	case s.utf16 && s.form == formHex:
		return Usagef("utf16: goes with a text, and hex: gives the bytes themselves")
	case s.form == formEnv && (s.arg == "" || strings.ContainsAny(s.arg, "=\x00")):
		return Usagef("env: needs the name of an environment variable")
	case s.form == formFile && s.arg == "":
		return Usagef("file: needs the path of a file")
	case len(s.arg) > maxSecret && s.form == formPass:
		return Usagef("pass: is longer than %d bytes", maxSecret)
	}
	if s.form == formHex {
		raw, err := hex.DecodeString(s.arg)
		if err != nil || len(raw) == 0 || len(raw) > maxSecret {
			return Usagef("hex: needs an even number of hexadecimal digits, as in hex:0102ff; pass: is the empty secret")
		}
		s.arg = string(raw)
	}
	if s.form == formFD {
		n, err := strconv.ParseUint(s.arg, 10, 31)
		if err != nil || n > maxFD {
			return Usagef("fd: needs the number of a file descriptor, as in fd:3")
		}
		s.fd = int(n)
		if n == 0 {
			s.form = formStdin
		}
	}
	if s.form == formSHA1 {
		n, err := hex.Decode(s.digest[:], []byte(s.arg[:min(len(s.arg), 2*sha1.Size)]))
		if err != nil || n != sha1.Size || len(s.arg) != 2*sha1.Size {
			return Usagef("sha1: needs 40 hexadecimal digits")
		}
		s.arg = ""
	}
	return nil
}

// isLine reports whether the secret is a line of a source that other flags can name too.
func (s *secretSpec) isLine() bool {
	return s.form == formFile || s.form == formFD || s.form == formStdin
}

// source names the source of a line. Flags with equal sources read successive lines.
func (s *secretSpec) source() string {
	switch s.form {
	case formStdin:
		return "standard input"
	case formFD:
		return "file descriptor " + strconv.Itoa(s.fd)
	case formFile:
		return "file " + s.arg
	}
	return ""
}

// A secretGroup holds the secrets of a command line. Secrets with the same source get
// successive lines of it, in the order of the command line, in whatever order they are
// needed.
type secretGroup struct {
	flags []*SecretFlag

	mu   sync.Mutex
	open map[string]io.Reader
}

// A lineResult is what was read for a flag, maybe before it was needed.
type lineResult struct {
	text []byte
	err  error
	more bool // the file has more lines than flags that name it; set for a new secret only
}

// given returns the name of a flag of the command line; empty if there is none.
func (g *secretGroup) given() string {
	for _, s := range g.flags {
		if s.Given() {
			return s.name()
		}
	}
	return ""
}

// checkStdin returns an error if a secret and data both come from standard input.
func (g *secretGroup) checkStdin(inputs []*entry) error {
	for _, s := range g.flags {
		if s.spec.form != formStdin {
			continue
		}
		for _, in := range inputs {
			if in.isStdin() {
				return &UsageError{
					Text:   fmt.Sprintf("-%s and the secret of -%s both read standard input", in.names[len(in.names)-1], s.name()),
					Advice: "give one of them a file, or the secret as fd:N, env:VAR or prompt",
				}
			}
		}
	}
	return nil
}

// openDescriptors opens the descriptors of fd:N. It must run before the command opens other
// files: if the caller did not pass the descriptor, such a file could get its number.
func (g *secretGroup) openDescriptors() error {
	g.open = make(map[string]io.Reader)
	for _, s := range g.flags {
		if s.spec.form != formFD || g.open[s.spec.source()] != nil {
			continue
		}
		file, err := inheritedFile(s.spec.fd)
		if err != nil {
			return Usagef("flag -%s: file descriptor %d is not open for reading", s.name(), s.spec.fd)
		}
		g.open[s.spec.source()] = file
	}
	return nil
}

// readLine returns the line of s. It reads the lines before it first.
func (g *secretGroup) readLine(s *SecretFlag) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.line == nil && s.spec.form != formFile && s.fs.env.unattended.Load() { // perhaps nobody writes it
		return nil, fmt.Errorf("-%s: %w", s.name(), ErrUnattended)
	}
	if s.line == nil {
		for _, other := range g.sameSource(s) {
			if other.line == nil && other.entry.set <= s.entry.set {
				other.line = g.readNext(other)
			}
		}
		if s.options.New {
			g.noteMore(s)
		}
		g.closeIfDone(s)
	}
	text, err := s.line.text, s.line.err
	if err == nil {
		s.line.text, s.line.err = nil, errLineUsed
	}
	return text, err
}

var errLineUsed = errors.New("secret was read before")

// sameSource returns the flags with the source of s, in command-line order.
func (g *secretGroup) sameSource(s *SecretFlag) []*SecretFlag {
	var same []*SecretFlag
	for set := 1; set <= s.fs.sets; set++ {
		for _, other := range g.flags {
			if other.entry.set == set && other.spec.isLine() && other.spec.source() == s.spec.source() {
				same = append(same, other)
			}
		}
	}
	return same
}

// readNext reads the next line, for s.
func (g *secretGroup) readNext(s *SecretFlag) *lineResult {
	source := s.spec.source()
	r, err := g.reader(s)
	var text []byte
	if err == nil {
		text, err = readSecretLine(r)
	}
	if err == nil {
		return &lineResult{text: text}
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s ends before the line with this secret", source)
	} else {
		err = fmt.Errorf("%s: %w", source, withoutPath(err))
	}
	return &lineResult{err: fmt.Errorf("-%s: %w", s.name(), err)}
}

// noteMore reads the lines of all flags that name the file of s, and records whether lines are
// left. It reads no pipe, which may never end, and no descriptor, whose rest is for others.
func (g *secretGroup) noteMore(s *SecretFlag) {
	file, ok := g.open[s.spec.source()].(*os.File)
	if !ok || s.spec.form != formFile {
		return
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return
	}
	same := g.sameSource(s)
	for _, other := range same {
		if other.line == nil {
			other.line = g.readNext(other)
		}
	}
	n, _ := file.Read(make([]byte, 1))
	for _, other := range same {
		other.line.more = n > 0
	}
}

func (g *secretGroup) reader(s *SecretFlag) (io.Reader, error) {
	source := s.spec.source()
	if r := g.open[source]; r != nil {
		return r, nil
	}
	if s.spec.form == formStdin {
		return s.fs.env.Stdin, nil
	}
	file, err := s.fs.env.openFile(s.spec.arg)
	if err != nil {
		return nil, err
	}
	g.open[source] = file
	return file, s.fs.env.addInput(s.spec.arg, file)
}

// closeIfDone closes the file of s if all its flags have been read.
func (g *secretGroup) closeIfDone(s *SecretFlag) {
	for _, other := range g.sameSource(s) {
		if other.line == nil {
			return
		}
	}
	g.close(s.spec.source())
}

// close closes the file of a source, if one is open.
func (g *secretGroup) close(source string) {
	if file, ok := g.open[source].(*os.File); ok {
		file.Close()
		delete(g.open, source)
	}
}

// readSecretLine returns the next line without its line end (LF or CR LF). It reads byte by
// byte, because the rest belongs to the next reader. io.EOF means that there is no line; an
// empty line is a line.
func readSecretLine(r io.Reader) ([]byte, error) {
	text, _, err := readLine(r)
	return text, err
}

// readLine is readSecretLine, but also reports whether the line had a line end.
func readLine(r io.Reader) (text []byte, ended bool, err error) {
	buf := make([]byte, maxSecret+2)
	defer clear(buf)
	n := 0
	for {
		if n == len(buf) {
			return nil, false, fmt.Errorf("line is longer than %d bytes", maxSecret)
		}
		_, err := io.ReadFull(r, buf[n:n+1])
		if errors.Is(err, io.EOF) && n == 0 {
			return nil, false, io.EOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		if ended = err == nil && buf[n] == '\n'; ended || err != nil {
			break
		}
		n++
	}
	if n > 0 && ended && buf[n-1] == '\r' {
		n--
	}
	if n > maxSecret {
		return nil, false, fmt.Errorf("line is longer than %d bytes", maxSecret)
	}
	return append(make([]byte, 0, n), buf[:n]...), ended, nil
}
