//go:build !linux

package newfile

import (
	"io/fs"
	"os"
)

func openUnnamed(string, fs.FileMode) *os.File { return nil }

// lock locks nothing, so removeStale removes nothing on this system.
func lock(*os.File, string) bool { return true }

func removeStale(string) {}

func link(_ *os.File, temp, target string) error { return os.Link(temp, target) }

// rename closes the file before: Windows renames no open file.
func rename(file *os.File, temp, target string) error {
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(temp, target)
}
