package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"maclef/internal/tpmtest"
)

// TestPermission: a key that this user may not read, and a directory that he may
// not write to. As root it looks at files as nobody does.
func TestPermission(t *testing.T) {
	dir, err := os.MkdirTemp("", "t") // t.TempDir's parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	open := filepath.Join(dir, "open")
	for path, mode := range map[string]fs.FileMode{secret: 0, open: 0o444} {
		if err := os.WriteFile(path, tpmtest.Fixture(t, "tpm12-tutorial/maclef"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ name, key, out, want string }{
		{"key", secret, filepath.Join(dir, "moncert"), "read " + secret + ": permission denied"},
		{"output", open, filepath.Join(locked, "moncert"), "write " + filepath.Join(locked, "moncert") + ": "},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := asNobody(func() error {
				return run([]string{"-tpm", "unix:/nonexistent", "-key", row.key, "-out", row.out}, nil, &stdout, &stderr)
			})
			if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
			if stdout.Len()+stderr.Len() > 0 {
				t.Errorf("printed %q, %q", &stdout, &stderr)
			}
		})
	}
}

// asNobody runs f in a thread that sees files as the user nobody does.
func asNobody(f func() error) error {
	result := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			if err := syscall.Setfsuid(65534); err != nil {
				result <- err
				return
			}
		}
		result <- f()
	}()
	return <-result
}
