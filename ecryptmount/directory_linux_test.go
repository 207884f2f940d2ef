package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A path is resolved as the kernel does it.
func TestFindDir(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, name := range []string{"a/b/c", "d"} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"a/up": "../d", "abs": dir + "/a/b", "d/two": "../abs/c/..//../up/.", "loop": "loop", "lost": "nowhere", "a/file": "b/../f",
	} {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("a/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": "a", "a/up": "d", "abs": "a/b", "abs/c": "a/b/c", "d/two": "d", "./a/../d/": "d", dir + "/d": "d",
	} {
		d, err := findDir(name)
		if err != nil || d.path != filepath.Join(dir, want) {
			t.Errorf("%s: %+v, %v", name, d, err)
			continue
		}
		d.release()
	}
	for name, want := range map[string]string{
		"loop": "too many levels of symbolic links", "lost": "no such file", "a/file": "it is not a directory", "a/f/x": "it is not a directory",
	} {
		if d, err := findDir(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", name, d, err, want)
		}
	}
}

// A link that is not root's may lead to its owner's directories alone.
func TestFindDirTrap(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "clear")
	if err := os.Symlink("/usr", link); err != nil {
		t.Fatal(err)
	}
	give(t, link)
	if d, err := findDir(link); err == nil || !strings.Contains(err.Error(), "leads to /usr, which belongs to root") {
		t.Errorf("%+v, %v", d, err)
	}
}

// recheck notices that something else has taken the place of a directory.
func TestHold(t *testing.T) {
	t.Parallel()
	above := holdDir(t).path
	name := filepath.Join(above, "clear")
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := findDir(name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.release()
	if err := d.recheck(); err != nil {
		t.Errorf("in its place: %v", err)
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if err := d.recheck(); err == nil || !strings.Contains(err.Error(), "was moved away") {
		t.Errorf("moved: %v", err)
	}
	if err := os.Symlink("clear.old", name); err != nil {
		t.Fatal(err)
	}
	if err := d.recheck(); err == nil || !strings.Contains(err.Error(), "something else was put in the place") {
		t.Errorf("a link to it: %v", err)
	}
	os.Remove(name)
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.recheck(); err == nil || !strings.Contains(err.Error(), "something else was put in the place") {
		t.Errorf("another directory: %v", err)
	}
	d.release()
	if err := d.recheck(); err != nil {
		t.Errorf("released before: %v", err)
	}
}

// Only root can put something in the place of a guarded directory.
func TestGuarded(t *testing.T) {
	t.Parallel()
	open := t.TempDir()
	if err := os.Mkdir(filepath.Join(open, "clear"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o770); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"/usr/bin": true, filepath.Join(open, "clear"): false} {
		d, err := findDir(name)
		if err != nil || d.rootOnly != want {
			t.Errorf("%s: %+v, %v", name, d, err)
			continue
		}
		d.release()
	}
}
