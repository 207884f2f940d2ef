// Package keyfile reads key files, and the pairs of files that tpm2-tools writes for a key.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"maclef/blob"
)

// Limit is the maximum size of a key file, in bytes. Data sealed to a TPM 1.2 is the largest.
const Limit = 16 << 20

// A PairError says that a file is one of a pair and that the other cannot be read.
type PairError struct {
	Path, Other string
	half        string
	err         error
}

func (e *PairError) Error() string {
	return fmt.Sprintf("%v; %s is the %s half of a tpm2-tools key", e.err, e.Path, e.half)
}

func (e *PairError) Unwrap() error { return e.err }

// Read reads a key file, or both files of a pair if path is NAME.pub or NAME.priv. read
// returns the contents of a file; its errors name the file. name replaces path in messages.
func Read(path, name string, read func(path string) ([]byte, error)) (blob.Key, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	k, err := blob.Parse(data)
	var other *blob.NotKeyError
	if errors.As(err, &other) {
		if base, ok := strings.CutSuffix(path, ".pub"); ok && other.Half == blob.PublicHalf {
			return readPair(base, &PairError{path, base + ".priv", "public", nil}, data, read)
		}
		if base, ok := strings.CutSuffix(path, ".priv"); ok && other.Half == blob.PrivateHalf {
			return readPair(base, &PairError{path, base + ".pub", "private", nil}, data, read)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return k, nil
}

// readPair reads the other file of a pair with this base name. failed is the error to
// return if it cannot be read.
func readPair(base string, failed *PairError, data []byte, read func(path string) ([]byte, error)) (blob.Key, error) {
	other, err := read(failed.Other)
	if err != nil {
		failed.err = err
		return nil, failed
	}
	public, private := data, other
	if failed.half == "private" {
		public, private = other, data
	}
	k, err := blob.ParsePair(public, private)
	if err != nil {
		return nil, fmt.Errorf("read %s.pub and %s.priv: %w", base, base, err)
	}
	return k, nil
}

// ReadFile reads a file of at most Limit bytes.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, Limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > Limit {
		return nil, fmt.Errorf("%s: over %d bytes: too large for a key file", path, Limit)
	}
	return data, nil
}
