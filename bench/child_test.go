//go:build linux

package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// taskVariable has the task of a process that this program has started, as JSON.
const taskVariable = "BENCH_TASK"

// A task is what another process does: this program's, or peers. It prepares, writes
// true, waits until its standard input ends, does it, and writes a result, as JSON.
type task struct {
	Role string // sign or handshake; those of peers
	TPM  string
	Keys []keyFile
	For  time.Duration

	Operations []string      // sign: one for each key
	Pause      time.Duration // sign: up to so long before each

	Address string // handshake: of the server
	Cert    []byte // handshake: the server's, PEM
	Version uint16
	Resume  int // handshake: each client so many times, all but the first resumed; else For

	program string // the other process's, where it is not this one's
}

// A result is what became of a task.
type result struct {
	Done int
	Took time.Duration
	Each []float64 // sign, with pauses: seconds that a signature took
}

// runTask is the other process.
func runTask(text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	begin := func() {
		fmt.Println("true")
		io.Copy(io.Discard, os.Stdin)
	}
	r, do := new(result), t.sign
	if t.Role == "handshake" {
		do = t.handshake
	}
	if err := do(begin, r); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// A child is another process.
type child struct {
	*exec.Cmd
	in  io.Closer
	out *json.Decoder
}

// ends keeps Ctrl-C away from a process, and ends it when this program dies.
var ends = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

// startChild starts a process with a task.
func startChild(t *task) (*child, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(cmp.Or(t.program, "/proc/self/exe"))
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, ends
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	return &child{cmd, in, json.NewDecoder(out)}, errors.Join(inErr, outErr, cmd.Start())
}

// result waits for the end.
func (c *child) result() (*result, error) {
	r := new(result)
	return r, errors.Join(c.read(r), c.Wait())
}

func (c *child) read(v any) error {
	err := c.out.Decode(v)
	if err != nil {
		c.kill()
		err = fmt.Errorf("%s: %w: %v", c.Path, err, c.ProcessState)
	}
	return err
}

// kill ends a process that may have ended already.
func (c *child) kill() {
	c.Process.Kill()
	c.Wait()
}

// runChildren starts processes, calls ready and has them begin together when all are
// ready, and gives their results.
func runChildren(ready func(), tasks ...*task) (results []*result, err error) {
	var children []*child
	for _, t := range tasks {
		c, err := startChild(t)
		if err != nil {
			return nil, err
		}
		defer c.kill()
		children = append(children, c)
		if err := c.read(new(bool)); err != nil {
			return nil, err
		}
	}
	ready()
	for _, c := range children {
		c.in.Close()
	}
	for _, c := range children {
		r, err := c.result()
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}
