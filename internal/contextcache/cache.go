// Package contextcache keeps saved contexts of TPM keys in files, until the machine is
// switched off. What proves that one is of this TPM and of its present start is that the
// TPM loads it; names of files prove nothing.
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
)

// A Cache is a folder of contexts that only its user can read and write. A nil one is
// empty and takes nothing. It is for one goroutine at a time.
type Cache struct {
	dir    string
	tpm    string // its name; which TPM a context is of, only that TPM knows
	broken bool   // an entry that the TPM does not load cannot be removed: nothing is read any more
}

// Limits of what is kept: entries, and bytes of each.
const (
	maxEntries = 256
	maxContext = 1 << 14
)

// Open opens this user's cache for a TPM, and makes it where there is none: maclef in
// $XDG_RUNTIME_DIR, for root always /run/maclef. Both folders must be the user's own, with
// no access for others (/run: no writing by others), and no symbolic links. An error says
// why there is none.
func Open(tpm string) (*Cache, error) {
	if os.Geteuid() == 0 {
		return OpenIn("/run", 0o022, tpm)
	}
	above := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(above) {
		return nil, errors.New("$XDG_RUNTIME_DIR names no folder")
	}
	return OpenIn(above, 0o077, tpm)
}

// OpenIn opens the cache in a folder whose mode must have none of the bits of denied.
func OpenIn(above string, denied fs.FileMode, tpm string) (*Cache, error) {
	above = filepath.Clean(above) // a link with a slash at its end would be followed
	if err := check(above, denied); err != nil {
		return nil, err
	}
	dir := filepath.Join(above, "maclef")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := check(dir, 0o077); err != nil {
		return nil, err
	}
	return &Cache{dir: dir, tpm: tpm}, nil
}

// check refuses what is no folder, another user's, or has bits of denied in its mode. Then
// nobody else can put anything else there afterwards.
func check(path string, denied fs.FileMode) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", path)
	case !ownedByUser(info):
		return fmt.Errorf("%s is another user's", path)
	case info.Mode().Perm()&denied != 0:
		return fmt.Errorf("%s has mode %#o: others have access to it", path, info.Mode().Perm())
	}
	return nil
}

// Name is the name of an entry of this TPM that is told from others by parts; empty for a
// nil cache.
func (c *Cache) Name(parts ...[]byte) string {
	if c == nil {
		return ""
	}
	return NameFor(c.tpm, parts...)
}

// NameFor is Name for a TPM by its name.
func NameFor(tpm string, parts ...[]byte) string {
	h := sha256.New()
	for _, part := range append([][]byte{[]byte(tpm)}, parts...) {
		fmt.Fprintf(h, "%d ", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Read returns an entry, nil where there is none.
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
	os.Chtimes(path, now, now) // the entry that was not used for the longest time makes room
	data, err := io.ReadAll(io.LimitReader(f, maxContext+1))
	if err != nil || len(data) > maxContext {
		return nil
	}
	return data
}

// Write writes an entry, whole or not at all; the oldest ones make room for it. Where that
// fails there is none.
func (c *Cache) Write(name string, data []byte) {
	if c == nil || name == "" || len(data) > maxContext {
		return
	}
	c.remove(maxEntries - 1)
	f, err := os.CreateTemp(c.dir, "*.new") // of mode 0600
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
}

// Remove removes an entry that the TPM does not load.
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

// remove removes all entries but so many of the newest.
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
