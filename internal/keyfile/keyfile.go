// Package keyfile reads key files, and the pairs of files that tpm2-tools writes for a key.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// privateNames are the endings of the private file's name: that of tpm2-tools' manual, and another
// usual one.
var privateNames = []string{".priv", ".prv"}

// Read reads a key file, or both files of a pair if path is NAME.pub and the other is NAME.priv or
// NAME.prv, or the other way round. read returns the contents of a file; its errors name the file.
// name replaces path in messages.
func Read(path, name string, read func(path string) ([]byte, error)) (blob.Key, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	k, err := blob.Parse(data)
	var other *blob.NotKeyError
	if errors.As(err, &other) {
		if base, ok := strings.CutSuffix(path, ".pub"); ok && other.Half == blob.PublicHalf {
			return readPrivate(base, data, read)
		}
		for _, ending := range privateNames {
			if base, ok := strings.CutSuffix(path, ending); ok && other.Half == blob.PrivateHalf {
				public, err := read(base + ".pub")
				if err != nil {
					return nil, &PairError{path, base + ".pub", "private", err}
				}
				return parsePair(base+".pub", path, public, data)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return k, nil
}

// readPrivate reads the private file that belongs to the public one with this base name.
func readPrivate(base string, public []byte, read func(path string) ([]byte, error)) (blob.Key, error) {
	var failed error
	for _, ending := range privateNames {
		private, err := read(base + ending)
		if err == nil {
			return parsePair(base+".pub", base+ending, public, private)
		}
		if failed == nil {
			failed = &PairError{base + ".pub", base + ending, "public", err}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil, failed
}

func parsePair(publicPath, privatePath string, public, private []byte) (blob.Key, error) {
	k, err := blob.ParsePair(public, private)
	if err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", publicPath, privatePath, err)
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
