package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// holdDir holds a new directory as a mount does.
func holdDir(t *testing.T) *directory {
	t.Helper()
	d, err := findDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.release)
	return d
}

// give makes a file, or a link, somebody's who is neither root nor owner.
func give(t *testing.T, path string) (owner int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Geteuid() + 1
	}
	if err := os.Lchown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return 1000
}

// A record is written once, and does not replace anything.
func TestRecordFile(t *testing.T) {
	t.Parallel()
	const name = "secret.ecryptmount"
	d := holdDir(t)
	path := filepath.Join(d.path, name)
	if r, err := readSettingsFile(d, name, os.Geteuid()); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	r := goodRecord()
	if err := writeSettingsFile(d, name, r); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got, err := readSettingsFile(d, name, os.Geteuid()); err != nil || got.Key != r.Key {
		t.Errorf("%+v, %v", got, err)
	}
	const appeared = "something of that name appeared meanwhile"
	if err := writeSettingsFile(d, name, r); err == nil || !strings.Contains(err.Error(), appeared) {
		t.Errorf("a record was replaced: %v", err)
	}
	os.Remove(path)
	if err := os.Symlink(filepath.Join(d.path, "planted"), path); err != nil {
		t.Fatal(err)
	}
	if err := writeSettingsFile(d, name, r); err == nil || !strings.Contains(err.Error(), appeared) {
		t.Errorf("a link was followed or replaced: %v", err)
	}
	if left, err := os.ReadDir(d.path); err != nil || len(left) != 1 || left[0].Type() != os.ModeSymlink {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file that somebody else may have put there is not read as a settings file.
func TestRecordPlanted(t *testing.T) {
	t.Parallel()
	write := func(path string) error { return os.WriteFile(path, []byte("root:secret:1::"), 0o600) }
	tests := []struct {
		name  string
		plant func(path string) error
		want  string
	}{
		{"pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is not a file"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a file"},
		{"link", func(path string) error { return os.Symlink("/etc/passwd", path) }, "it is a symbolic link"},
		{"link to nothing", func(path string) error { return os.Symlink("nothing", path) }, "it is a symbolic link"},
		{"open to others", func(path string) error { _ = write(path); return os.Chmod(path, 0o620) }, "others than its owner can write to it (mode 0620)"},
		{"of somebody else", write, "it belongs to"},
		{"of something else", write, "not a settings file of ecryptmount"},
		{"large", func(path string) error { _ = write(path); return os.Truncate(path, maxSettingsFile+1) }, "too large"},
	}
	for _, test := range tests {
		d := holdDir(t)
		path := filepath.Join(d.path, "x.ecryptmount")
		if err := test.plant(path); err != nil {
			t.Fatal(err)
		}
		owner := os.Geteuid()
		if test.name == "of somebody else" {
			owner = give(t, path)
		}
		r, err := readSettingsFile(d, "x.ecryptmount", owner)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "root:") {
			t.Errorf("%s: %+v, %v; want %q", test.name, r, err, test.want)
		}
	}
}
