package cli

import (
	"fmt"
	"io/fs"
	"os"
)

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
