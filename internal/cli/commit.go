package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Commit puts the contents in place, durably, or fails and leaves everything as
// it was. After a failed Write it fails with the error of that.
func (o *Output) Commit() error {
	if o.done {
		return nil
	}
	if o.failed != nil {
		o.Abort()
		return o.failed
	}
	if o.direct != nil {
		o.done = true
		if o.file == nil {
			return nil
		}
		if err := o.file.Close(); err != nil {
			return o.writeError(err)
		}
		return nil
	}
	err := o.file.Sync()
	if err == nil {
		err = o.file.Close()
	}
	if err == nil {
		err = o.place()
	}
	o.Abort() // what is left of the temporary file
	if errors.Is(err, fs.ErrExist) {
		return existsError(o.name)
	}
	if err != nil {
		return o.writeError(err)
	}
	syncDir(filepath.Dir(o.target))
	return nil
}

// Abort drops what was not committed. After Commit it does nothing.
func (o *Output) Abort() {
	if o.done {
		return
	}
	o.done = true
	if o.file == nil {
		return
	}
	o.file.Close()
	if o.direct == nil {
		os.Remove(o.file.Name())
		o.stop()
	}
}

// place gives the temporary file its name. Unless forced it never replaces
// another file, not even one that appeared since OpenOutput.
func (o *Output) place() error {
	temp := o.file.Name()
	if o.force {
		return os.Rename(temp, o.target)
	}
	err := os.Link(temp, o.target)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return placeReserved(temp, o.target)
}

// placeReserved is for where there are no hard links (FAT, some network file
// systems): it reserves the name, then fills it.
func placeReserved(temp, target string) error {
	reserved, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	reserved.Close()
	if err := os.Rename(temp, target); err != nil {
		os.Remove(target)
		return err
	}
	return nil
}

// createTemp creates a file of a new name in dir, which ends with a separator or
// is empty.
func createTemp(dir string, mode fs.FileMode) (*os.File, error) {
	const tries = 100
	var err error
	for range tries {
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, fmt.Errorf("choose a temporary name: %w", err)
		}
		name := dir + ".tmp-" + hex.EncodeToString(random[:])
		var file *os.File
		file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return nil, err
}

// syncDir makes a new name in dir durable where the system can.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Sync()
}
