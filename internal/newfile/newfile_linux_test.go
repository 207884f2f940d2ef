package newfile

import (
	"bufio"
	"errors"
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

// TestMain makes the test binary a writer with a temporary name, too, which lives until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NEWFILE_TEST_DIR"); dir != "" {
		f, err := createNamed(dir, 0o600)
		if err != nil {
			panic(err)
		}
		f.Write([]byte("half"))
		os.Stdout.WriteString("begun\n")
		time.Sleep(time.Hour) // in select {} the runtime would end it: all goroutines are asleep
		f.Discard()
	}
	os.Exit(m.Run())
}

func startWriter(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "NEWFILE_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "begun\n" {
		t.Fatal(line, err)
	}
	return cmd
}

// names returns the names in a folder.
func names(dir string) []string {
	all, _ := fs.Glob(os.DirFS(dir), "*")
	return all
}

// makers are both ways to begin a file.
var makers = map[string]func(string, fs.FileMode) (*File, error){"Create": Create, "createNamed": createNamed}

func TestNames(t *testing.T) {
	for name, create := range makers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/"
			begin := func(text string) *File {
				f, err := create(dir, 0o640)
				if err == nil {
					_, err = f.Write([]byte(text))
				}
				if err == nil {
					err = f.Sync()
				}
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			holds := func(want string) {
				t.Helper()
				data, err := os.ReadFile(dir + "it")
				info, _ := os.Stat(dir + "it")
				if err != nil || string(data) != want || info.Mode().Perm()&^0o640 != 0 {
					t.Errorf("%q, %v", data, err)
				}
			}
			for text, name := range map[string]func(*File) error{
				"linked":   func(f *File) error { return f.Link(dir + "it") },
				"replaced": func(f *File) error { return f.Replace(dir + "it") },
				"moved":    func(f *File) error { return errors.Join(f.give(), f.moveWithoutLink(dir+"it")) },
			} {
				os.Remove(dir + "it")
				f := begin(text)
				if err := name(f); err != nil {
					t.Error(text, err)
				}
				f.Discard()
				f.Discard()
				holds(text)
			}
			f := begin("other")
			if err := f.Link(dir + "it"); !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if err := f.moveWithoutLink(dir + "it"); !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			f.Discard()
			if err := f.Replace(dir + "it"); err == nil {
				t.Error("named after Discard")
			}
			f = begin("newest")
			if err := f.Replace(dir + "it"); err != nil {
				t.Error(err)
			}
			f.Discard()
			holds("newest")
			if left := names(dir); len(left) != 1 {
				t.Error(left)
			}
			if _, err := create(dir+"none/", 0o600); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// give is what Replace does before it renames the file.
func (f *File) give() error {
	if f.temp != "" {
		return nil
	}
	name, err := tempName()
	f.temp = f.dir + name
	return errors.Join(err, link(f.file, "", f.temp))
}

// A signal handler may come at any time.
func TestWithdraw(t *testing.T) {
	for name, create := range makers {
		dir := t.TempDir() + "/"
		f, err := create(dir, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Withdraw()
		if _, err := f.Write([]byte("more")); err != nil {
			t.Error(name, err)
		}
		if f.Link(dir+"it") == nil || f.Replace(dir+"it") == nil {
			t.Error(name, "named")
		}
		if left := names(dir); len(left) > 0 {
			t.Error(name, left)
		}
		f.Discard()
	}
}

// The file of a killed writer goes, and that of a live one stays, whatever is beside them.
func TestStale(t *testing.T) {
	dir := t.TempDir() + "/"
	const ours = ".tmp-maclef-0123456789abcde"
	live := startWriter(t, dir)
	lives := names(dir)
	dead := startWriter(t, dir)
	for _, err := range []error{
		os.WriteFile(dir+"victim", []byte("precious"), 0o600),
		os.Symlink("victim", dir+ours+"1"), os.Mkdir(dir+ours+"2", 0o700), syscall.Mkfifo(dir+ours+"3", 0o600),
		os.WriteFile(dir+ours, nil, 0o600), os.WriteFile(dir+ours+"x", nil, 0o600), os.WriteFile(dir+".tmp-0123456789abcdef", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.WriteFile(dir+ours+"4", nil, 0o666), os.Chown(dir+ours+"4", 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	before := names(dir)
	dead.Process.Kill()
	dead.Wait()
	f, err := createNamed(dir, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	removeStale(dir)
	removeStale(filepath.Join(dir, "none") + "/")
	after := names(dir)
	if len(after) != len(before) { // one less, one more
		t.Errorf("before %q, after %q", before, after)
	}
	if _, err := os.Stat(dir + lives[0]); err != nil {
		t.Error("the live writer's:", err)
	}
	if _, err := os.Stat(f.temp); err != nil {
		t.Error("this process's:", err)
	}
	live.Process.Kill()
	live.Wait()
	removeStale(dir)
	if left := names(dir); len(left) != len(before)-1 {
		t.Errorf("left %q", left)
	}
}

// Writers and removers at the same time: no file is lost.
func TestStaleRace(t *testing.T) {
	dir := t.TempDir() + "/"
	stop := make(chan struct{})
	var removers, writers sync.WaitGroup
	for range 2 {
		removers.Add(1)
		go func() {
			defer removers.Done()
			for {
				select {
				case <-stop:
					return
				default:
					removeStale(dir)
				}
			}
		}()
	}
	for _, name := range strings.Fields("a b c") {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for i := range 200 {
				f, err := createNamed(dir, 0o600)
				if err == nil && i%2 == 0 {
					f.Discard()
					f, err = Create(dir, 0o600)
				}
				if err == nil {
					err = f.Replace(dir + name)
				}
				if err != nil {
					t.Error(err)
					return
				}
				f.Discard()
			}
		}()
	}
	writers.Wait()
	close(stop)
	removers.Wait()
	if left := names(dir); len(left) != 3 {
		t.Error(left)
	}
}
