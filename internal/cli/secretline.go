package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// A secretGroup holds the secrets of a command line. Those that name the same
// source take successive lines of it, in the order of the command line, in
// whatever order they turn out to be needed.
type secretGroup struct {
	flags []*SecretFlag

	mu   sync.Mutex
	open map[string]io.Reader
}

// takenLine is what was read for a flag, before it asked or when it did.
type takenLine struct {
	text []byte
	err  error
}

// checkStdin refuses a secret and data from standard input at once.
func (g *secretGroup) checkStdin(inputs []*entry) error {
	for _, s := range g.flags {
		if s.spec.form != formStdin {
			continue
		}
		for _, in := range inputs {
			if in.isDef() {
				return &UsageError{
					Text:   fmt.Sprintf("-%s and the secret of -%s both read standard input", in.names[len(in.names)-1], s.name()),
					Advice: "give one of them a file, or the secret as fd:N, env:VAR or prompt",
				}
			}
		}
	}
	return nil
}

// claim takes hold of the descriptors of fd:N before anything else is opened
// that could get a number that the caller forgot to pass.
func (g *secretGroup) claim() error {
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

// readLine returns the line of s, reading those before it on the way.
func (g *secretGroup) readLine(s *SecretFlag) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.line == nil {
		for _, other := range g.sharing(s) {
			if other.line == nil && other.entry.set <= s.entry.set {
				other.line = g.take(other)
			}
		}
		g.closeSpent(s)
	}
	text, err := s.line.text, s.line.err
	if err == nil {
		s.line.text, s.line.err = nil, errLineUsed
	}
	return text, err
}

var errLineUsed = errors.New("secret was read before")

// sharing returns the flags with the source of s, in command-line order.
func (g *secretGroup) sharing(s *SecretFlag) []*SecretFlag {
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

// take reads the next line for s.
func (g *secretGroup) take(s *SecretFlag) *takenLine {
	source := s.spec.source()
	r, err := g.reader(s)
	var text []byte
	if err == nil {
		text, err = readSecretLine(r)
	}
	if err == nil {
		return &takenLine{text: text}
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s ends before the line with this secret", source)
	} else {
		err = fmt.Errorf("%s: %w", source, withoutPath(err))
	}
	return &takenLine{err: fmt.Errorf("-%s: %w", s.name(), err)}
}

func (g *secretGroup) reader(s *SecretFlag) (io.Reader, error) {
	source := s.spec.source()
	if r := g.open[source]; r != nil {
		return r, nil
	}
	if s.spec.form == formStdin {
		return s.fs.env.Stdin, nil
	}
	file, err := os.Open(s.spec.arg)
	if err != nil {
		return nil, err
	}
	g.open[source] = file
	return file, s.fs.env.reads(s.spec.arg, file)
}

// closeSpent closes a file: that all its flags have read.
func (g *secretGroup) closeSpent(s *SecretFlag) {
	file, ok := g.open[s.spec.source()].(*os.File)
	if !ok {
		return
	}
	for _, other := range g.sharing(s) {
		if other.line == nil {
			return
		}
	}
	file.Close()
	delete(g.open, s.spec.source())
}

// readSecretLine returns the next line without its line end (LF or CR LF). It
// reads byte by byte: what follows belongs to the next reader. io.EOF means that
// there is no line at all, an empty one not being one.
func readSecretLine(r io.Reader) ([]byte, error) {
	text, _, err := readLine(r)
	return text, err
}

// readLine is readSecretLine, and reports whether the line had a line end.
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
