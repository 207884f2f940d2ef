package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Modes of output files, before umask.
const (
	KeyMode  fs.FileMode = 0o600 // key files, and what was decrypted
	CertMode fs.FileMode = 0o644 // certificates, public keys, signatures
)

// An Output is a file that a command writes: whole, or not at all. It is opened
// before the work that gives its contents, so that a directory that cannot be
// written, or a file that exists, is found first.
//
// Until Commit the contents stand in a temporary file in the same directory.
// Standard output ("-"), devices, pipes and sockets are written directly.
type Output struct {
	name   string    // as the user wrote it
	target string    // behind symbolic links
	direct io.Writer // set where there is no temporary file
	file   *os.File  // what is written, but for standard output
	force  bool
	stop   func() // ends the watch for signals
	done   bool
	failed error
}

// OpenOutput opens path. An existing file is an error unless force is set; then
// it is replaced at Commit, and a symbolic link to it stays one. Always follow
// with defer Abort.
func (e *Env) OpenOutput(path string, mode fs.FileMode, force bool) (*Output, error) {
	switch {
	case path == "":
		return nil, Usagef("the name of the output file is an empty text")
	case path == "-" || path == "/dev/stdout":
		return &Output{name: path, direct: e.Stdout}, nil
	}
	if err := e.replaces(path); err != nil && force {
		return nil, err
	}
	out := &Output{name: path, force: force}
	if err := out.open(mode); err != nil {
		return nil, err
	}
	return out, nil
}

func (o *Output) open(mode fs.FileMode) error {
	target, err := followLinks(o.name)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
	}
	o.target = target
	info, err := os.Stat(o.name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
	case err == nil && info.IsDir():
		return WithHint(fmt.Errorf("write %s: is a directory", o.name), "name a file in it")
	case err == nil && (!info.Mode().IsRegular() || isDescriptor(o.name)):
		return o.openDirect()
	case err == nil && !o.force:
		return existsError(o.name)
	}
	if _, err := os.Lstat(o.name); err == nil && !o.force { // a link to nothing
		return existsError(o.name)
	}
	return o.openTemp(mode)
}

// openDirect opens what is not a file: it cannot be replaced.
func (o *Output) openDirect() error {
	file, err := os.OpenFile(o.name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
	}
	o.file, o.direct = file, file
	return nil
}

// openTemp creates the temporary file. Its name is short, and hidden.
func (o *Output) openTemp(mode fs.FileMode) error {
	dir, base := filepath.Split(o.target)
	if base == "" {
		return fmt.Errorf("write %s: no such directory", o.name)
	}
	file, err := createTemp(dir, mode)
	if err != nil {
		if dir == "" {
			dir = "."
		}
		return WithHint(fmt.Errorf("write %s: create a file in %s: %w", o.name, dir, withoutPath(err)),
			"name a file in a directory that exists and that you may write to")
	}
	o.file = file
	o.stop = OnSignal(func() { os.Remove(file.Name()) })
	return nil
}

// Write adds to the contents.
func (o *Output) Write(p []byte) (int, error) {
	var w io.Writer = o.file
	if o.direct != nil {
		w = o.direct
	}
	n, err := w.Write(p)
	if err != nil {
		o.failed = o.writeError(err)
		return n, o.failed
	}
	return n, nil
}

func (o *Output) writeError(err error) error {
	var product *productError
	if errors.As(err, &product) { // says it all
		return err
	}
	return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
}

// followLinks returns the path at the end of symbolic links, whether or not
// there is something. It does not clean paths: ".." behind a link to a directory
// is not what it looks like.
func followLinks(path string) (string, error) {
	const most = 40
	for range most {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		next, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(next) {
			dir, _ := filepath.Split(path)
			next = dir + next
		}
		path = next
	}
	return "", errors.New("too many symbolic links")
}

// isDescriptor reports whether path is the name of an open descriptor, which a
// shell redirected on purpose: a file there is not in the way.
func isDescriptor(path string) bool {
	return path == "/dev/stderr" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

func existsError(name string) error {
	return WithHint(fmt.Errorf("write %s: %w", name, errExists), "choose another name, or replace it with -force")
}

// errExists is fs.ErrExist with a text that fits the command line.
var errExists error = existsText{}

type existsText struct{}

func (existsText) Error() string        { return "the file exists" }
func (existsText) Is(target error) bool { return target == fs.ErrExist }

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

// A usedFile is a file that a run reads, or is to replace.
type usedFile struct {
	name string
	info fs.FileInfo
}

// reads notes an input, and refuses one that the run is to replace: with -force
// nobody could use that key again. Standard input can be a file, too.
func (e *Env) reads(name string, r any) error {
	file, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	e.files.Lock()
	defer e.files.Unlock()
	in := usedFile{name, info}
	for _, out := range e.replaced {
		if err := checkDistinct(in, out); err != nil {
			return err
		}
	}
	e.read = append(e.read, in)
	return nil
}

// replaces notes an output that exists, and refuses one that the run has read.
func (e *Env) replaces(name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil // there is a better place to say so
	}
	e.files.Lock()
	defer e.files.Unlock()
	out := usedFile{name, info}
	for _, in := range e.read {
		if err := checkDistinct(in, out); err != nil {
			return err
		}
	}
	e.replaced = append(e.replaced, out)
	return nil
}

func checkDistinct(in, out usedFile) error {
	if !os.SameFile(in.info, out.info) {
		return nil
	}
	return &UsageError{
		Text:   fmt.Sprintf("the output %s is the file that is read (%s)", out.name, in.name),
		Advice: "name another output file",
	}
}
