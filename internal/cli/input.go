package cli

import (
	"fmt"
	"io"
	"os"
)

// Limits of inputs, in bytes.
const (
	KeyFileLimit  = 1 << 20
	CertFileLimit = 1 << 20
)

// ReadInput reads the file path, or standard input for "-" and "". It reads at
// most limit bytes; a longer input is an error that says "too large to be a"
// what, a noun.
func (e *Env) ReadInput(path string, limit int64, what string) ([]byte, error) {
	name, r := inputName(path), e.Stdin
	if path != "-" && path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, withoutPath(err))
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil && info.IsDir() {
			return nil, fmt.Errorf("read %s: is a directory, not a file", path)
		}
		r = file
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, withoutPath(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: more than %s, too large to be a %s", name, bytesText(limit), what)
	}
	return data, nil
}

// inputName is what an input is called in messages.
func inputName(path string) string {
	if path == "-" || path == "" {
		return "standard input"
	}
	return path
}

// bytesText writes a limit as a person would.
func bytesText(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
