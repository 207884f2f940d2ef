package cli

import (
	"cmp"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// Limits of inputs, in bytes.
const (
	CertFileLimit       = 1 << 20
	PrivateKeyFileLimit = 64 << 10
)

// OpenInput opens the file path, or standard input for "-" and "". Close it after use; that
// does not close standard input.
func (e *Env) OpenInput(path string) (io.ReadCloser, error) {
	if path == "-" || path == "" {
		if e.unattended.Load() {
			return nil, e.inputError(path, ErrReadOnce)
		}
		if IsTerminal(e.Stdin) {
			e.Notef("reading standard input; Ctrl-D ends it")
		}
		return io.NopCloser(e.Stdin), e.addInput(inputName(path), e.Stdin)
	}
	file, err := e.openFile(path)
	if err != nil {
		return nil, e.inputError(path, err)
	}
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close()
		return nil, fmt.Errorf("read %s: is a directory, not a file", path)
	}
	if err := e.addInput(path, file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openFile opens a file to read it. It waits for the writer of a named pipe; after Unattended it
// refuses one instead.
func (e *Env) openFile(path string) (*os.File, error) {
	if !e.unattended.Load() {
		return os.Open(path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		file.Close()
		return nil, cmp.Or(err, ErrReadOnce)
	}
	return file, nil
}

// ReadInput reads the file path, or standard input for "-" and "". If the input is longer
// than limit bytes, the error says "too large to be a" what; what is a noun.
func (e *Env) ReadInput(path string, limit int64, what string) ([]byte, error) {
	in, err := e.OpenInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, e.inputError(path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: more than %s, too large to be a %s", inputName(path), bytesText(limit), what)
	}
	return data, nil
}

// HashInput hashes the file path, or standard input for "-" and "", of any size.
func (e *Env) HashInput(path string, h hash.Hash) ([]byte, error) {
	in, err := e.OpenInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if _, err := io.Copy(h, in); err != nil {
		return nil, e.inputError(path, err)
	}
	return h.Sum(nil), nil
}

// inputError names the input once, even if err names it too. For a file that does not exist the
// hint is the flag that names it.
func (e *Env) inputError(path string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist)
	err = fmt.Errorf("read %s: %w", inputName(path), withoutPath(err))
	for _, in := range e.inputFlags {
		if missing && in.value.String() == path {
			return WithHint(err, "-"+in.names[len(in.names)-1]+" takes the name of a file, or - for standard input")
		}
	}
	return err
}

// inputName returns the name of an input for messages.
func inputName(path string) string {
	if path == "-" || path == "" {
		return "standard input"
	}
	return path
}

// bytesText formats a limit with a unit.
func bytesText(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
