package contextcache_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"maclef/internal/contextcache"
	"maclef/internal/tpmtest"
)

// above is a folder that only this user has access to.
func above(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustOpen(t *testing.T, dir string) *contextcache.Cache {
	t.Helper()
	c, err := contextcache.OpenIn(dir, 0o077, "tpm")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEntries(t *testing.T) {
	dir := above(t)
	c := mustOpen(t, dir)
	a, b := c.Name([]byte("ab"), []byte("c")), c.Name([]byte("a"), []byte("bc"))
	if a == b {
		t.Error("two entries have one name")
	}
	if got := c.Read(a); got != nil {
		t.Errorf("read %q of nothing", got)
	}
	c.Write(a, []byte("one"))
	c.Write(a, []byte("two"))
	c.Write("", []byte("none"))
	c.Write(b, make([]byte, 1<<20))
	if got := mustOpen(t, dir).Read(a); string(got) != "two" {
		t.Errorf("read %q", got)
	}
	if got := c.Read(b); got != nil {
		t.Errorf("kept %d bytes", len(got))
	}
	files, err := os.ReadDir(filepath.Join(dir, "maclef"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	for path, want := range map[string]fs.FileMode{".": 0o700, files[0].Name(): 0o600} {
		info, err := os.Stat(filepath.Join(dir, "maclef", path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	c.Remove(a)
	c.Remove(a)
	if got := c.Read(a); got != nil {
		t.Errorf("read %q after it was removed", got)
	}
}

func TestOnlySoMany(t *testing.T) {
	dir := above(t)
	c := mustOpen(t, dir)
	for i := range 300 {
		c.Write(c.Name(fmt.Append(nil, i)), []byte("context"))
	}
	files, err := os.ReadDir(filepath.Join(dir, "maclef"))
	if err != nil || len(files) != 256 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if !bytes.Equal(c.Read(c.Name(fmt.Append(nil, 299))), []byte("context")) {
		t.Error("the newest is not there")
	}
	if err := c.Empty(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(filepath.Join(dir, "maclef")); err != nil || len(files) != 0 {
		t.Errorf("after Empty: %v, %v", files, err)
	}
}

func TestNoCache(t *testing.T) {
	var c *contextcache.Cache
	c.Write("name", []byte("context"))
	c.Remove("name")
	if got, err := c.Read("name"), c.Empty(); got != nil || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Folders in which somebody else may put something are refused, and left alone.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		why     string
	}{
		"none":              {func(t *testing.T, dir string) { must(t, os.Remove(dir)) }, "no such file"},
		"open to the group": {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o750)) }, "others have access"},
		"a symbolic link":   {func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+"2")); must(t, os.Symlink(dir+"2", dir)) }, "not a folder"},
		"a link and a slash": {func(t *testing.T, dir string) {
			dir = strings.TrimSuffix(dir, "/")
			must(t, os.Rename(dir, dir+"2"))
			must(t, os.Symlink(dir+"2", dir))
		}, "not a folder"},
		"its own is open": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/maclef", 0o700))
			must(t, os.Chmod(dir+"/maclef", 0o777))
		}, "others have access"},
		"its own is a link":  {func(t *testing.T, dir string) { must(t, os.Symlink(t.TempDir(), dir+"/maclef")) }, "not a folder"},
		"its own is a file":  {func(t *testing.T, dir string) { must(t, os.WriteFile(dir+"/maclef", nil, 0o600)) }, "not a folder"},
		"its own is another": {func(t *testing.T, dir string) { must(t, os.Mkdir(dir+"/maclef", 0o700)); chown(t, dir+"/maclef") }, "another user"},
		"another user's":     {chown, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := above(t)
			c.prepare(t, dir)
			if name == "a link and a slash" {
				dir += "/"
			}
			cache, err := contextcache.OpenIn(dir, 0o077, "tpm")
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("opened: %v, want %q", err, c.why)
			}
			cache.Write("name", []byte("context"))
			if got := cache.Read("name"); got != nil {
				t.Errorf("read %q", got)
			}
		})
	}
}

// chown needs root; others cannot make the case that it tests.
func chown(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		tpmtest.Cannot(t, "only root can give a folder away")
	}
	must(t, os.Chown(dir, 12345, 12345))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Which folder it is: root's does not depend on the environment.
func TestOpen(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Setenv("XDG_RUNTIME_DIR", above(t))
		c, err := contextcache.Open("tpm")
		if err != nil {
			t.Fatal(err)
		}
		name := c.Name([]byte(t.TempDir()))
		c.Write(name, []byte("context"))
		defer c.Remove(name)
		if data, err := os.ReadFile("/run/maclef/" + name); err != nil || string(data) != "context" {
			t.Errorf("in /run/maclef: %q, %v", data, err)
		}
		return
	}
	for _, dir := range []string{"", "run", "./run"} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		if _, err := contextcache.Open("tpm"); err == nil {
			t.Errorf("opened for XDG_RUNTIME_DIR=%q", dir)
		}
	}
	dir := above(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if _, err := contextcache.Open("tpm"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "maclef")); err != nil {
		t.Error(err)
	}
}

// A folder that goes, or cannot be written any more, costs nothing but what was kept.
func TestFolderGone(t *testing.T) {
	dir := above(t)
	c := mustOpen(t, dir)
	name := c.Name([]byte("a"))
	c.Write(name, []byte("context"))
	must(t, os.RemoveAll(filepath.Join(dir, "maclef")))
	if got := c.Read(name); got != nil {
		t.Errorf("read %q", got)
	}
	c.Write(name, []byte("context"))
	c.Remove(name)
	if got := c.Read(name); got != nil {
		t.Errorf("read %q", got)
	}
}
