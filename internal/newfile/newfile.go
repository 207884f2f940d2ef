// Package newfile writes files that get their name when they are complete. What a killed program
// leaves behind is removed by the next one that makes a file in the same folder.
//
// On Linux a new file has no name at all (O_TMPFILE), where the file system can. Elsewhere, and
// for a moment before it replaces another file, it has a temporary name. Its writer holds a lock
// on it, so a temporary name without a lock is one of a dead writer.
package newfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// A File is a file that is being written. Link or Replace gives it its name. Always follow
// Create with defer Discard.
type File struct {
	file *os.File
	dir  string // "" or with a separator at its end

	mu        sync.Mutex
	temp      string // its temporary path; "" if it has none
	withdrawn bool
}

// Create creates a file, which gets its name in the folder dir: "" or a path with a separator at
// its end. mode is its mode before umask. It removes the files of dead writers from dir.
func Create(dir string, mode fs.FileMode) (*File, error) {
	removeStale(dir)
	if file := openUnnamed(dir, mode); file != nil {
		return &File{file: file, dir: dir}, nil
	}
	return createNamed(dir, mode)
}

// prefix and hexadecimal digits are a temporary name. It is hidden, and no other program's.
const prefix, digits = ".tmp-maclef-", 16

func tempName() (string, error) {
	var random [digits / 2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("choose a temporary name: %w", err)
	}
	return prefix + hex.EncodeToString(random[:]), nil
}

func isTempName(name string) bool {
	text, ok := strings.CutPrefix(name, prefix)
	_, err := hex.DecodeString(text)
	return ok && err == nil && len(text) == digits
}

// maxTries is how many temporary names are tried.
const maxTries = 100

// createNamed creates a file with a temporary name.
func createNamed(dir string, mode fs.FileMode) (*File, error) {
	var err error
	for range maxTries {
		var name string
		if name, err = tempName(); err != nil {
			return nil, err
		}
		var file *os.File
		file, err = os.OpenFile(dir+name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return nil, err
		case lock(file, dir+name):
			return &File{file: file, dir: dir, temp: dir + name}, nil
		}
		file.Close() // another process took it for a dead writer's, and removes it
		err = &fs.PathError{Op: "lock", Path: dir + name, Err: fs.ErrExist}
	}
	return nil, err
}

// Write appends to the contents.
func (f *File) Write(p []byte) (int, error) { return f.file.Write(p) }

// Sync syncs the contents to disk.
func (f *File) Sync() error { return f.file.Sync() }

// errWithdrawn is the error of naming a file after Withdraw.
var errWithdrawn = errors.New("the program is ending")

// Link gives the file its name. It never replaces another file: the error is fs.ErrExist then.
func (f *File) Link(target string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.withdrawn {
		return errWithdrawn
	}
	err := link(f.file, f.temp, target)
	if err == nil || errors.Is(err, fs.ErrExist) || f.temp == "" {
		return err
	}
	return f.moveWithoutLink(target)
}

// moveWithoutLink is Link for file systems without hard links (FAT, some network file systems).
// It reserves the name with an empty file and then replaces that.
func (f *File) moveWithoutLink(target string) error {
	reserved, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	reserved.Close()
	if err := f.rename(target); err != nil {
		os.Remove(target)
		return err
	}
	return nil
}

// Replace gives the file its name, and replaces what has that name. Others see either the old file
// or the new one.
func (f *File) Replace(target string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.withdrawn {
		return errWithdrawn
	}
	if f.temp == "" { // only a name replaces another one
		name, err := tempName()
		if err == nil {
			err = link(f.file, "", f.dir+name)
		}
		if err != nil {
			return err
		}
		f.temp = f.dir + name
	}
	return f.rename(target)
}

// rename gives a file with a temporary name another one.
func (f *File) rename(target string) error {
	err := rename(f.file, f.temp, target)
	if err == nil {
		f.temp = ""
	}
	return err
}

// Withdraw removes the temporary name. It is for signal handlers: Write works on, but the file
// gets no name any more.
func (f *File) Withdraw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.withdrawn = true
	if f.temp != "" {
		os.Remove(f.temp)
		f.temp = ""
	}
}

// Discard closes the file, and removes it unless it got its name. Windows removes no open file.
func (f *File) Discard() {
	f.file.Close()
	f.Withdraw()
}
