package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"maclef/internal/newfile"
)

// Modes of output files, before umask.
const (
	KeyMode  fs.FileMode = 0o600 // key files and decrypted data
	CertMode fs.FileMode = 0o644 // certificates, public keys, signatures
)

// An Output is a file that a command writes completely or not at all. A command opens it
// before its work, so that it notices early if the file exists or the directory cannot be
// written.
//
// The contents go to a file without a name until Commit (see package newfile). Standard output
// ("-"), devices, pipes and sockets are written directly.
type Output struct {
	name   string        // as the user gave it
	target string        // path after symbolic links
	direct io.Writer     // not nil if there is no temporary file
	file   *os.File      // a device, pipe or socket
	temp   *newfile.File // the contents until Commit
	force  bool
	stop   func() // stops watching for signals
	done   bool
	failed error
}

// OpenOutput opens path. An existing file is an error unless force is set; then Commit
// replaces it. If path is a symbolic link, Commit replaces the file that it leads to.
// Always follow with defer Abort.
func (e *Env) OpenOutput(path string, mode fs.FileMode, force bool) (*Output, error) {
	switch {
	case path == "":
		return nil, Usagef("the name of the output file is empty")
	case path == "-" || path == "/dev/stdout":
		return &Output{name: path, direct: e.Stdout}, nil
	}
	if err := e.addOutput(path); err != nil && force {
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
	if _, err := os.Lstat(o.name); err == nil && !o.force { // a dangling link
		return existsError(o.name)
	}
	return o.openTemp(mode)
}

// openDirect opens a file that is not a regular file, and so cannot be replaced.
func (o *Output) openDirect() error {
	file, err := os.OpenFile(o.name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
	}
	o.file, o.direct = file, file
	return nil
}

// openTemp opens the file that gets its name in Commit.
func (o *Output) openTemp(mode fs.FileMode) error {
	dir, base := filepath.Split(o.target)
	if base == "" {
		return fmt.Errorf("write %s: no such directory", o.name)
	}
	file, err := newfile.Create(dir, mode)
	if err != nil {
		if dir == "" {
			dir = "."
		}
		return WithHint(fmt.Errorf("write %s: create a file in %s: %w", o.name, dir, withoutPath(err)),
			"name a file in a directory that exists and that you may write to")
	}
	o.temp = file
	o.stop = OnSignal(file.Withdraw)
	return nil
}

// Write appends to the contents.
func (o *Output) Write(p []byte) (int, error) {
	w := o.direct
	if o.temp != nil {
		w = o.temp
	}
	n, err := w.Write(p)
	if err != nil {
		o.failed = o.writeError(err)
		return n, o.failed
	}
	return n, nil
}

func (o *Output) writeError(err error) error {
	var writing *stdoutError
	if errors.As(err, &writing) { // it names standard output already
		return err
	}
	return fmt.Errorf("write %s: %w", o.name, withoutPath(err))
}

// followLinks returns the path at the end of symbolic links, whether or not a file exists
// there. It does not clean paths: ".." after a link to a directory has another meaning.
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

// isDescriptor reports whether path names an open descriptor. The user redirected it on
// purpose, so it may be an existing file.
func isDescriptor(path string) bool {
	return path == "/dev/stderr" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

func existsError(name string) error {
	return WithHint(fmt.Errorf("write %s: %w", name, errExists), "choose another name, or replace it with -force")
}

// errExists is fs.ErrExist with a message for users.
var errExists error = existsText{}

type existsText struct{}

func (existsText) Error() string        { return "the file exists" }
func (existsText) Is(target error) bool { return target == fs.ErrExist }

// Commit moves the contents to the target and syncs them to disk. If it fails, everything
// stays as it was. After a failed Write it returns that error.
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
	err := o.temp.Sync()
	switch {
	case err != nil:
	case o.force:
		err = o.temp.Replace(o.target)
	default: // not even a file that was created since OpenOutput
		err = o.temp.Link(o.target)
	}
	o.Abort()
	if errors.Is(err, fs.ErrExist) {
		return existsError(o.name)
	}
	if err != nil {
		return o.writeError(err)
	}
	syncDir(filepath.Dir(o.target))
	return nil
}

// Abort discards the contents. After Commit it does nothing.
func (o *Output) Abort() {
	if o.done {
		return
	}
	o.done = true
	if o.file != nil {
		o.file.Close()
	}
	if o.temp != nil {
		o.temp.Discard()
		o.stop()
	}
}

// syncDir syncs a directory to disk if the system supports that.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Sync()
}

// A usedFile is a file that a run reads or will replace.
type usedFile struct {
	name string
	info fs.FileInfo
}

// addInput records an input. It returns an error if the run will replace it: with -force
// nobody could use that key again. Standard input can be a file, too.
func (e *Env) addInput(name string, r any) error {
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
	for _, out := range e.outputs {
		if err := checkDistinct(in, out); err != nil {
			return err
		}
	}
	e.inputs = append(e.inputs, in)
	return nil
}

// addOutput records an existing output. It returns an error if the run has read it.
func (e *Env) addOutput(name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil // opening it reports the error
	}
	e.files.Lock()
	defer e.files.Unlock()
	out := usedFile{name, info}
	for _, in := range e.inputs {
		if err := checkDistinct(in, out); err != nil {
			return err
		}
	}
	e.outputs = append(e.outputs, out)
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
