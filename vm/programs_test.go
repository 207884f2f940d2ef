//go:build linux

package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// hostPrograms are programs of this computer that the machines get, too, besides those of
// this project.
var hostPrograms = []string{"cryptsetup", "curl", "openssl", "gocryptfs", "mkfs.ext4", "fusermount3", "mountpoint", "script"}

// makeProgramDisk makes the disk that all machines read their programs from. They are in dir
// beforehand: those of this project in usr/local/bin, the kernel's modules in lib.
func makeProgramDisk(dir, disk string) error {
	for _, name := range hostPrograms {
		if err := addProgram(dir, name); err != nil {
			return err
		}
	}
	out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", dir, disk, "256M").CombinedOutput()
	if err != nil {
		return fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return nil
}

// libraries matches the path of a library in the output of ldd.
var libraries = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// addProgram copies a program of this computer into usr/bin, and its libraries to their own paths.
func addProgram(dir, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := copyFile(path, filepath.Join(dir, "usr/bin", name)); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil // static program
	}
	for _, match := range libraries.FindAllStringSubmatch(string(out), -1) {
		files := []string{match[1]}
		// The C library loads this library when threads end.
		if filepath.Base(match[1]) == "libc.so.6" {
			files = append(files, filepath.Join(filepath.Dir(match[1]), "libgcc_s.so.1"))
		}
		for _, file := range files {
			if err := copyFile(file, filepath.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
