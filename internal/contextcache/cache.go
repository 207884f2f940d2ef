// Package contextcache stores saved contexts of TPM keys in files, until the machine is switched
// off. A context is valid if the TPM loads it; the names of the files prove nothing.
package contextcache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"maclef/internal/newfile"
)

// A Cache is a folder of contexts that only its user can access. A nil Cache is always empty. It
// is not safe for concurrent use.
type Cache struct {
	dir    string
	tpm    string // the TPM's name, a part of the entries' names
	broken bool   // an invalid entry could not be removed, so Read returns nothing
}

// Limits: number of entries, and bytes of each.
const (
	maxEntries = 256
	maxContext = 1 << 14
)

// Open opens the user's cache for a TPM, and creates it if necessary: for root /run/maclef, else
// $XDG_RUNTIME_DIR/maclef. Both folders must belong to the user, must not be symbolic links, and
// others must have no access (/run: no write access).
func Open(tpm string) (*Cache, error) {
	if os.Geteuid() == 0 {
		return OpenIn("/run", 0o022, tpm)
	}
	parent := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(parent) {
		return nil, errors.New("$XDG_RUNTIME_DIR is not an absolute path")
	}
	return OpenIn(parent, 0o077, tpm)
}

// OpenIn opens the cache in the folder parent, whose mode must have none of the bits of denied.
func OpenIn(parent string, denied fs.FileMode, tpm string) (*Cache, error) {
	parent = filepath.Clean(parent) // os.Lstat follows a link with a slash at its end
	if err := check(parent, denied); err != nil {
		return nil, err
	}
	dir := filepath.Join(parent, "maclef")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := check(dir, 0o077); err != nil {
		return nil, err
	}
	return &Cache{dir: dir, tpm: tpm}, nil
}

// check returns an error unless path is a folder of this user whose mode has none of the bits of
// denied. So others cannot replace its contents later.
func check(path string, denied fs.FileMode) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", path)
	case !ownedByUser(info):
		return fmt.Errorf("%s belongs to another user", path)
	case info.Mode().Perm()&denied != 0:
		return fmt.Errorf("%s has mode %#o: others have access to it", path, info.Mode().Perm())
	}
	return nil
}

// Name returns the name of this TPM's entry for parts, "" for a nil Cache.
func (c *Cache) Name(parts ...[]byte) string {
	if c == nil {
		return ""
	}
	return NameFor(c.tpm, parts...)
}

// NameFor is Name for the TPM with this name.
func NameFor(tpm string, parts ...[]byte) string {
	h := sha256.New()
	for _, part := range append([][]byte{[]byte(tpm)}, parts...) {
		fmt.Fprintf(h, "%d ", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Read returns an entry, nil if there is none.
func (c *Cache) Read(name string) []byte {
	if c == nil || name == "" || c.broken {
		return nil
	}
	path := filepath.Join(c.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	now := time.Now()
	os.Chtimes(path, now, now) // the least recently used entries are removed first
	data, err := io.ReadAll(io.LimitReader(f, maxContext+1))
	if err != nil || len(data) > maxContext {
		return nil
	}
	return data
}

// Write writes an entry, completely or not at all. It removes the least recently used entries if
// there are too many. Errors are ignored.
func (c *Cache) Write(name string, data []byte) {
	if c == nil || name == "" || len(data) > maxContext {
		return
	}
	c.remove(maxEntries - 1)
	f, err := newfile.Create(c.dir+string(filepath.Separator), 0o600)
	if err != nil {
		return
	}
	defer f.Discard()
	if _, err = f.Write(data); err == nil {
		f.Replace(filepath.Join(c.dir, name))
	}
}

// Remove removes an entry that is not valid.
func (c *Cache) Remove(name string) {
	if c == nil || name == "" {
		return
	}
	if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.broken = true
	}
}

// Empty removes all entries.
func (c *Cache) Empty() error { return c.remove(0) }

// remove removes all entries except the keep newest ones.
func (c *Cache) remove(keep int) error {
	if c == nil {
		return nil
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) <= keep {
		return err
	}
	age := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			age[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return age[a.Name()].Compare(age[b.Name()]) })
	var errs []error
	for _, e := range entries[:len(entries)-keep] {
		if err := os.Remove(filepath.Join(c.dir, e.Name())); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
