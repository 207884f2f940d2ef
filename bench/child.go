//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// childRole is the argument by which this program starts itself.
const childRole = "child"

// A task is what another process of this program is to do. It gets the task as
// JSON in a line, prepares, writes a line "ready", waits for a line, does it, and
// writes its report as JSON.
type task struct {
	Role string // sign, handshake or visit; those of bench/peers
	TPM  string
	Keys []keyFile
	For  time.Duration

	Way  string // sign: how
	Want []byte // sign: the signature, where it is always the same

	Pause time.Duration // sign: up to so long before each signature

	Address string // handshake: of the server
	Cert    []byte // handshake: the server's, PEM
	Clients int
	Version uint16
	Resume  int // handshake: so many times each, all but the first resumed; else For

	program string // the other process's, where it is not this one's
}

// A report is what became of a task.
type report struct {
	Done   int
	Took   time.Duration
	Each   []float64      // where there are pauses: seconds that a signature took
	Failed map[string]int // errors by text
}

// fail counts an error.
func (r *report) fail(err error) {
	if r.Failed == nil {
		r.Failed = make(map[string]int)
	}
	r.Failed[errorText(err)]++
}

// err is an error if there were any.
func (r *report) err() error {
	var errs []error
	for text, n := range r.Failed {
		errs = append(errs, fmt.Errorf("%d × %s", n, text))
	}
	return errors.Join(errs...)
}

// runChild is the other process.
func runChild([]string) error {
	in := json.NewDecoder(os.Stdin)
	var t task
	if err := in.Decode(&t); err != nil {
		return err
	}
	begin := func() error {
		fmt.Println("ready")
		return in.Decode(new(bool))
	}
	var r report
	var err error
	switch t.Role {
	case "sign":
		err = t.sign(begin, &r)
	case "handshake":
		err = t.handshake(begin, &r)
	case "visit":
		err = t.visit(begin, &r)
	default:
		err = fmt.Errorf("no role %q", t.Role)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// A child is another process of this program.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// startChild starts a process with a task.
func startChild(t *task) (*child, error) {
	c := &child{cmd: exec.Command(cmp.Or(t.program, "/proc/self/exe"), childRole)}
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c.in).Encode(t); err != nil {
		return nil, c.ended(err)
	}
	return c, nil
}

// ready waits until the process is.
func (c *child) ready() error {
	if _, err := c.out.ReadString('\n'); err != nil {
		return c.ended(err)
	}
	return nil
}

// begin has a process that is ready do its task.
func (c *child) begin() error { return json.NewEncoder(c.in).Encode(true) }

// report waits for the end.
func (c *child) report() (*report, error) {
	r := new(report)
	if err := json.NewDecoder(c.out).Decode(r); err != nil {
		return nil, c.ended(err)
	}
	return r, c.cmd.Wait()
}

// kill ends a process that may have ended already.
func (c *child) kill() { c.ended(nil) }

// ended gives why a process has ended before its time, in its own words.
func (c *child) ended(err error) error {
	if err == nil || !errors.Is(err, io.EOF) {
		c.cmd.Process.Kill()
	}
	c.in.Close()
	if waited := c.cmd.Wait(); waited != nil {
		err = waited
	}
	if words := strings.TrimSpace(c.stderr.String()); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// runChildren starts processes, has them begin together when all are ready, and
// gives their reports.
func runChildren(tasks ...*task) (reports []*report, err error) {
	var children []*child
	defer func() {
		for _, c := range children {
			c.kill()
		}
	}()
	for _, t := range tasks {
		c, err := startChild(t)
		if err != nil {
			return nil, err
		}
		children = append(children, c)
		if err := c.ready(); err != nil {
			return nil, err
		}
	}
	for _, c := range children {
		if err := c.begin(); err != nil {
			return nil, err
		}
	}
	for _, c := range children {
		r, err := c.report()
		if err != nil {
			return nil, err
		}
		if err := r.err(); err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}
