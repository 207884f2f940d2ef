//go:build linux

// Vm runs scenarios on machines with a real kernel and a software TPM that the
// kernel takes for a chip: QEMU, swtpm, Debian's stock kernel.
//
//	go run ./vm [-transcripts DIR] [-docs DIR [-write]] SCENARIO.sh …
//
// It prints what a person at the machine would see, and ends with status 1 if
// anything was not as the scenario expects. A scenario is a shell script; see
// the type scenario for what else stands in it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// hostPrograms are programs of this computer that the machines have, too: those
// that people use besides ours.
var hostPrograms = []string{"cryptsetup", "curl", "openssl", "gocryptfs", "mkfs.ext4", "fusermount3", "mountpoint", "script"}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vm: error:", err)
		os.Exit(1)
	}
}

// A session is one call of this program.
type session struct {
	out         io.Writer
	dir         string // for everything that is forgotten afterwards
	transcripts string
	docs        string
	write       bool // documents instead of checking them
	kernel      string
	image       string
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	s := &session{out: out}
	flags.StringVar(&s.transcripts, "transcripts", "", "write what was seen in each scenario into `DIR`")
	flags.StringVar(&s.docs, "docs", "", "check that the documents in `DIR` say what scenarios with a title print")
	flags.BoolVar(&s.write, "write", false, "write those documents")
	bin := flags.String("bin", "", "take the commands from `DIR` (default: build them)")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	var scenarios []*scenario
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
	if err := s.prepare(*bin); err != nil {
		return err
	}
	return s.runAll(scenarios)
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
	for _, name := range []string{"keygen", "certgen", "tlsdemo", "tpmctl"} {
		args = append(args, "./"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func (s *session) runAll(scenarios []*scenario) error {
	var failed []string
	for _, scenario := range scenarios {
		began := time.Now()
		err := s.runScenario(scenario)
		if path := scenario.documentPath(s.docs); err == nil && s.docs != "" && path != "" {
			err = s.document(path, document(scenario))
		}
		result := "ok"
		if err != nil {
			result = "FAILED: " + err.Error()
			failed = append(failed, scenario.name)
		}
		fmt.Fprintf(s.out, "\n==== %s: %s (%.0f s)\n\n", scenario.name, result, time.Since(began).Seconds())
	}
	if failed != nil {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

func (s *session) document(path, text string) error {
	if s.write {
		return os.WriteFile(path, []byte(text), 0o644)
	}
	return checkDocument(path, text)
}

// runScenario runs the steps of a scenario one after the other, with chips and
// disks of their own.
func (s *session) runScenario(scenario *scenario) error {
	dir, err := os.MkdirTemp(s.dir, scenario.name+"-")
	if err != nil {
		return err
	}
	out := s.out
	if s.transcripts != "" {
		f, err := os.Create(filepath.Join(s.transcripts, scenario.name+".txt"))
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(out, f)
	}
	t := &transcript{w: out}
	l := &lab{dir: dir, kernel: s.kernel, image: s.image}
	for _, step := range scenario.steps {
		t.step(step)
		if err := l.run(step, t.show); err != nil {
			return err
		}
	}
	return nil
}
