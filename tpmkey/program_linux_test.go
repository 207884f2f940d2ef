package tpmkey_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"maclef/tpmkey"
)

// A program is this test binary as another process: it heeds the lines of its standard
// input, and answers each with one.
type program struct {
	user
	asked atomic.Int32
}

func (p *program) run() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := p.heed(strings.Fields(in.Text()))
		if err != nil {
			fmt.Println("failed", n, strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println("done", n)
	}
}

// heed does what a user does, or one of: load-asked FILE (asks for all secrets, and
// counts that); sign-all-for DURATION (with all keys at once); asked (how often that
// was); intrude-for DURATION NAME... (see intruder).
func (p *program) heed(words []string) (n int, err error) {
	switch words[0] {
	case "load-asked":
		return 1, p.loadAsked(words[1])
	case "sign-all-for":
		d, _ := time.ParseDuration(words[1])
		return p.signAll(time.Now().Add(d))
	case "asked":
		return int(p.asked.Load()), nil
	case "intrude-for":
		d, _ := time.ParseDuration(words[1])
		return newIntruder(words[2:]).intrude(time.Now().Add(d))
	}
	return p.obey(words)
}

func (p *program) loadAsked(file string) error {
	ask := func(answer tpmkey.Secret) tpmkey.Secret {
		return tpmkey.AskSecret(func() (tpmkey.Secret, error) {
			p.asked.Add(1)
			return answer, nil
		})
	}
	k, err := p.tpm.LoadFile(context.Background(), file, &tpmkey.LoadOptions{ParentAuth: ask(tutorialSRK()), Auth: ask(motdepasse())})
	if err == nil {
		p.keys = append(p.keys, k)
	}
	return err
}

// signAll signs with all keys at once until a time comes.
func (p *program) signAll(end time.Time) (int, error) {
	var all atomic.Int32
	errs := make([]error, len(p.keys))
	var wg sync.WaitGroup
	for i, k := range p.keys {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; time.Now().Before(end) && errs[i] == nil; n++ {
				if errs[i] = signs(k, i, n); errs[i] == nil {
					all.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	return int(all.Load()), errors.Join(errs...)
}

// startProgram starts one; change may alter its process.
func startProgram(t *testing.T, name string, change func(*exec.Cmd)) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "user", name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if change != nil {
		change(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(p.kill)
	return p
}

// resultWithin is result of a process that is ended where it takes too long.
func (p *process) resultWithin(limit time.Duration) (n int, err error) {
	watchdog := time.AfterFunc(limit, func() { p.cmd.Process.Kill() })
	n, err = p.result()
	if !watchdog.Stop() {
		err = fmt.Errorf("not done within %v: %w", limit, err)
	}
	return n, err
}
