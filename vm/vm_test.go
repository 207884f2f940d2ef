//go:build linux

// Package vm_test runs scenarios on virtual machines with a real kernel and a software TPM
// as their chip: QEMU, swtpm and Debian's kernel.
//
//	go test ./vm -args -scenarios [-transcripts DIR] [-write]
//
// A scenario is a shell script in scenarios/; the type scenario describes its format. A
// scenario with a title is also a document in docs/, and the test compares the two.
package vm_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	runScenarios = flag.Bool("scenarios", false, "run the scenarios")
	transcripts  = flag.String("transcripts", "", "write what was seen in each scenario into `DIR`")
	jobs         = flag.Int("jobs", 1, "run so many scenarios at a time")
	writeDocs    = flag.Bool("write", false, "write the documents instead of checking them")
)

// maxDirLength limits the path of the temporary directory: the path of a socket has at most
// 107 bytes.
const maxDirLength = 50

func TestScenarios(t *testing.T) {
	if !*runScenarios {
		t.Skip("make vm-test runs the scenarios")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	t.Cleanup(stop)
	paths, err := filepath.Glob("scenarios/*.sh")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	// mke2fs is in a directory that the PATH of an ordinary user does not contain.
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	dir, err := os.MkdirTemp("", "maclef-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if len(dir) > maxDirLength {
		t.Fatalf("%s is too long for the sockets in it: set TMPDIR to something shorter", dir)
	}
	shared := prepare(t, dir)
	t.Run("all", func(t *testing.T) {
		var running sync.WaitGroup
		places := make(chan struct{}, *jobs)
		for _, s := range longestFirst(t, paths) {
			places <- struct{}{}
			running.Add(1)
			go func() {
				defer func() { <-places; running.Done() }()
				t.Run(s.name, func(t *testing.T) { testScenario(ctx, t, s, filepath.Join(dir, s.name), shared) })
			}()
		}
		running.Wait()
	})
}

func testScenario(ctx context.Context, t *testing.T, s *scenario, dir string, shared files) {
	began := time.Now()
	err := runScenario(ctx, s, &workspace{dir: dir, files: shared})
	if err == nil {
		err = checkDocument(s)
	}
	result := "ok"
	if err != nil {
		result = "FAILED: " + err.Error()
		t.Error(err)
	}
	fmt.Printf("==== %s: %s (%.0f s)\n", s.name, result, time.Since(began).Seconds())
}

// longestFirst reads the scenarios. Those that may take longest begin first, so that no long one is
// left at the end.
func longestFirst(t *testing.T, paths []string) []*scenario {
	t.Helper()
	var all []*scenario
	for _, path := range paths {
		s, err := readScenario(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	limit := func(s *scenario) (sum time.Duration) {
		for _, step := range s.steps {
			sum += step.limit
		}
		return sum
	}
	slices.SortStableFunc(all, func(a, b *scenario) int { return cmp.Compare(limit(b), limit(a)) })
	return all
}

// prepare fetches the kernel, builds the commands and writes what all machines share.
func prepare(t *testing.T, dir string) files {
	t.Helper()
	fetch := exec.Command("./fetch-kernel")
	fetch.Stderr = os.Stderr
	out, err := fetch.Output()
	if err != nil {
		t.Fatalf("fetch the kernel: %v", err)
	}
	shared := files{kernel: strings.TrimSpace(string(out)), image: filepath.Join(dir, "image"), programs: filepath.Join(dir, "programs")}
	// Without cgo the commands need no libraries.
	tree := filepath.Join(dir, "tree")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", tree+"/usr/local/bin/", "../keygen", "../certgen", "../tlsdemo", "../tpmctl", "../ecryptmount")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(tree, "lib"), os.DirFS(filepath.Join(shared.kernel, "lib"))); err != nil {
		t.Fatal(err)
	}
	if err := makeProgramDisk(tree, shared.programs); err != nil {
		t.Fatalf("make the disk with the programs: %v", err)
	}
	f, err := os.Create(shared.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeImage(f, shared.kernel); err != nil {
		t.Fatalf("pack the initial file system: %v", err)
	}
	return shared
}

// runScenario runs the steps of a scenario one after the other. It prints the transcript in
// one piece, because other scenarios run at the same time.
func runScenario(ctx context.Context, s *scenario, l *workspace) error {
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	var seen strings.Builder
	defer func() { fmt.Print(seen.String()) }()
	var out io.Writer = &seen
	if *transcripts != "" {
		f, err := os.Create(filepath.Join(*transcripts, s.name+".txt"))
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(out, f)
	}
	l.log = out
	t := &transcript{w: out}
	defer t.end()
	for _, step := range s.steps {
		t.step(step)
		if err := l.run(ctx, step, t.show); err != nil {
			return err
		}
	}
	return nil
}
