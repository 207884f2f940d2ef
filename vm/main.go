//go:build linux

// Vm runs scenarios on machines with a real kernel and a software TPM that the
// kernel takes for a chip: QEMU, swtpm, Debian's stock kernel.
//
//	go run ./vm [-jobs N] [-transcripts DIR] [-docs DIR [-write]] SCENARIO.sh …
//
// It prints what a person at the machine would see, and ends with status 1 if
// anything was not as the scenario expects. A scenario is a shell script; see
// the type scenario for what else stands in it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hostPrograms are programs of this computer that the machines have, too: those
// that people use besides ours.
var hostPrograms = []string{"cryptsetup", "curl", "openssl", "gocryptfs", "mkfs.ext4", "fusermount3", "mountpoint", "script"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "vm: error:", err)
		os.Exit(1)
	}
}

// socketRoom is how long the session's directory may be: the path of a socket has
// 107 bytes.
const socketRoom = 50

// A session is one call of this program.
type session struct {
	out         io.Writer
	dir         string // for everything that is forgotten afterwards
	transcripts string
	docs        string
	write       bool // documents instead of checking them
	kernel      string
	image       string
	jobs        int
	mu          sync.Mutex // of out
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	s := &session{out: out}
	flags.StringVar(&s.transcripts, "transcripts", "", "write what was seen in each scenario into `DIR`")
	flags.StringVar(&s.docs, "docs", "", "check that the documents in `DIR` say what scenarios with a title print")
	flags.BoolVar(&s.write, "write", false, "write those documents")
	flags.IntVar(&s.jobs, "jobs", 1, "run `N` scenarios at a time")
	bin := flags.String("bin", "", "take the commands from `DIR` (default: build them)")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	var scenarios []*scenario
	if s.jobs < 1 || flags.NArg() == 0 {
		return errors.New("usage: vm [flags] SCENARIO.sh …, with -jobs 1 or more")
	}
	// What an ordinary user's PATH leaves out has mke2fs.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, path := range flags.Args() {
		scenario, err := readScenario(path)
		if err != nil {
			return err
		}
		scenarios = append(scenarios, scenario)
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "maclef-vm-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if len(s.dir) > socketRoom {
		return fmt.Errorf("%s is too long for the sockets in it: set TMPDIR to something shorter", s.dir)
	}
	if err := s.prepare(*bin); err != nil {
		return err
	}
	return s.runAll(ctx, scenarios)
}

// prepare fetches the kernel, builds the commands and packs the image.
func (s *session) prepare(bin string) error {
	fetch := exec.Command("vm/fetch-kernel")
	fetch.Stderr = os.Stderr
	kernel, err := fetch.Output()
	if err != nil {
		return fmt.Errorf("fetch the kernel: %w", err)
	}
	s.kernel = strings.TrimSpace(string(kernel))
	if bin == "" {
		bin = filepath.Join(s.dir, "bin")
		if err := build(bin); err != nil {
			return err
		}
	}
	s.image = filepath.Join(s.dir, "image")
	f, err := os.Create(s.image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeImage(f, bin, s.kernel, hostPrograms); err != nil {
		return fmt.Errorf("pack the initial file system: %w", err)
	}
	return f.Close()
}

// build builds the commands without cgo, so that they need no libraries.
func build(dir string) error {
	args := []string{"build", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir + "/"}
	for _, name := range []string{"keygen", "certgen", "tlsdemo", "tpmctl", "ecryptmount"} {
		args = append(args, "./"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// runAll runs the scenarios, so many at a time as there are jobs. What each shows
// is printed in one piece where it could mix with another's.
func (s *session) runAll(ctx context.Context, scenarios []*scenario) error {
	results := make([]error, len(scenarios))
	var group sync.WaitGroup
	places := make(chan struct{}, s.jobs)
	for i, scenario := range scenarios {
		group.Add(1)
		places <- struct{}{}
		go func() {
			defer group.Done()
			results[i] = s.runOne(ctx, scenario)
			<-places
		}()
	}
	group.Wait()
	var failed []string
	for i, scenario := range scenarios {
		if results[i] != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", scenario.name, results[i]))
		}
	}
	if failed != nil {
		return fmt.Errorf("failed:\n%s", strings.Join(failed, "\n"))
	}
	return nil
}

func (s *session) runOne(ctx context.Context, scenario *scenario) error {
	out := s.out
	if s.jobs > 1 {
		var buffer bytes.Buffer
		out = &buffer
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			buffer.WriteTo(s.out)
		}()
	}
	began := time.Now()
	err := s.runScenario(ctx, scenario, out)
	if path := scenario.documentPath(s.docs); err == nil && s.docs != "" && path != "" {
		err = s.document(path, document(scenario))
	}
	result := "ok"
	if err != nil {
		result = "FAILED: " + err.Error()
	}
	fmt.Fprintf(out, "\n==== %s: %s (%.0f s)\n\n", scenario.name, result, time.Since(began).Seconds())
	return err
}

func (s *session) document(path, text string) error {
	if s.write {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(text), 0o644)
	}
	return checkDocument(path, text)
}

// runScenario runs the steps of a scenario one after the other, with chips and
// disks of their own.
func (s *session) runScenario(ctx context.Context, scenario *scenario, out io.Writer) error {
	dir, err := os.MkdirTemp(s.dir, scenario.name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.transcripts != "" {
		f, err := os.Create(filepath.Join(s.transcripts, scenario.name+".txt"))
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(out, f)
	}
	t := &transcript{w: out}
	defer t.end()
	l := &lab{dir: dir, kernel: s.kernel, image: s.image, complaints: out}
	for _, step := range scenario.steps {
		t.step(step)
		if err := l.run(ctx, step, t.show); err != nil {
			return err
		}
	}
	return nil
}
