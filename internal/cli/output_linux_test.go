package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startSleeping starts demo and returns when it has opened its output, watches
// for signals, and begins to sleep.
func startSleeping(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	const word = "sleeping\n"
	said := make([]byte, len(word))
	if _, err := io.ReadFull(stdout, said); err != nil || string(said) != word {
		t.Fatalf("demo said %q: %v", said, err)
	}
}

// names returns the names in a folder.
func names(dir string) []string {
	all, _ := fs.Glob(os.DirFS(dir), "*")
	return all
}

func TestOutputOnSignal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		sig      syscall.Signal
		wantExit int // where it is not the signal itself that ends the process
	}{
		{name: "SIGINT", sig: syscall.SIGINT},
		{name: "SIGTERM", sig: syscall.SIGTERM},
		{name: "SIGHUP", sig: syscall.SIGHUP},
		{name: "SIGQUIT", sig: syscall.SIGQUIT, wantExit: 2}, // of the Go runtime
		{name: "SIGKILL", sig: syscall.SIGKILL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := demoCommand(t, "-out", "maclef", "-sleep", "20000")
			cmd.Dir = dir
			startSleeping(t, cmd)
			before := names(dir)
			cmd.Process.Signal(test.sig)
			if sig, exit := waitSignal(t, cmd); sig != test.sig && (test.wantExit == 0 || exit != test.wantExit) {
				t.Errorf("ended with signal %v, status %d", sig, exit)
			}
			// Where files without a name are not possible, the next run removes what was left.
			if left := names(dir); len(left) > 0 && (test.sig != syscall.SIGKILL || len(before) == 0) {
				t.Errorf("left %q", left)
			}
			next := demoCommand(t, "-out", "next")
			next.Dir = dir
			if out, err := next.CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			if left := names(dir); len(left) != 1 || left[0] != "next" {
				t.Errorf("after the next run: %q", left)
			}
		})
	}
}

func TestOutputUnderNohup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	demo := demoCommand(t)
	cmd := exec.Command("bash", "-c", `trap "" HUP; exec -a demo "$0" -out maclef -sleep 600`, demo.Path)
	cmd.Dir = dir
	startSleeping(t, cmd)
	cmd.Process.Signal(syscall.SIGHUP)
	if sig, exit := waitSignal(t, cmd); sig != 0 || exit != 0 {
		t.Errorf("ended with signal %v, status %d", sig, exit)
	}
	if left := names(dir); len(left) != 1 || left[0] != "maclef" {
		t.Errorf("left %q", left)
	}
}

// newOutput opens an output for a test.
func newOutput(t *testing.T, path string, force bool) *Output {
	t.Helper()
	out, err := NewEnv("test", nil, io.Discard, io.Discard).OpenOutput(path, KeyMode, force)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Abort)
	return out
}

func TestConcurrentCommits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "maclef")
	outputs := make([]*Output, 16)
	for i := range outputs {
		outputs[i] = newOutput(t, path, false)
		if _, err := outputs[i].Write(bytes.Repeat([]byte{byte('a' + i)}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	errs := make([]error, len(outputs))
	var all sync.WaitGroup
	for i, out := range outputs {
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = out.Commit()
		}()
	}
	all.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil && winner >= 0 {
			t.Error("two outputs were committed")
		}
		if err == nil {
			winner = i
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("output %d: %v", i, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil || winner < 0 || !bytes.Equal(data, bytes.Repeat([]byte{byte('a' + winner)}, 1000)) {
		t.Errorf("winner %d, contents %.20q, %v", winner, data, err)
	}
	if left := names(dir); len(left) != 1 {
		t.Errorf("left %q", left)
	}
}

func TestForcedCommitIsAtomic(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "maclef")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := newOutput(t, path, true)
	io.WriteString(out, "new")
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Errorf("before Commit: %q", data)
	}
	if err := out.Commit(); err != nil {
		t.Fatal(err)
	}
	out.Abort()
	if err := out.Commit(); err != nil {
		t.Errorf("second Commit: %v", err)
	}
	data, _ := os.ReadFile(path)
	info, err := os.Stat(path)
	if err != nil || string(data) != "new" || info.Mode() != KeyMode {
		t.Errorf("after Commit: %q, %v, %v", data, info.Mode(), err)
	}
}

func TestCommitAfterFailedWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := newOutput(t, filepath.Join(dir, "maclef"), false)
	out.temp.Discard() // as if the disk had gone
	if _, err := io.WriteString(out, "x"); err == nil {
		t.Fatal("the write did not fail")
	}
	if err := out.Commit(); err == nil || !strings.Contains(err.Error(), "write "+filepath.Join(dir, "maclef")) {
		t.Errorf("Commit: %v", err)
	}
	if left := names(dir); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

// TestOutputAsNobody runs demo without root's powers in directories that it may
// not use.
func TestOutputAsNobody(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "demo")
	// This process must not write it: a child that another test starts meanwhile would have it open for
	// writing, too, and it could not be executed.
	if out, err := exec.Command("install", "-m", "755", demoCommand(t).Path, exe).CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	readOnly, shut := filepath.Join(dir, "readonly"), filepath.Join(dir, "shut")
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		os.Mkdir(readOnly, 0o555), os.Mkdir(shut, 0o711),
		os.WriteFile(filepath.Join(shut, "secret"), nil, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"read-only directory", []string{"-out", "readonly/new"}, "write readonly/new: create a file in readonly/: permission denied\ndemo: hint: name a file in a directory that"},
		{"unreadable input", []string{"-in", "shut/secret"}, "read shut/secret: permission denied"},
		{"unreadable secret", []string{"-need", "key", "-key-pass", "file:shut/secret"}, "-key-pass: file shut/secret: permission denied"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(exe, test.args...)
			cmd.Dir = dir
			if os.Getuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), test.want) {
				t.Errorf("%v, %s; want %q", err, out, test.want)
			}
		})
	}
}
