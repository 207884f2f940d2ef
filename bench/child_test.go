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

// taskEnv is the environment variable with the task of a child process, as JSON.
const taskEnv = "BENCH_TASK"

// A task is the work of a child process: this program again, or the program peers. The
// child prepares the work, writes true, waits until its standard input ends, does the work,
// and writes a result as JSON.
type task struct {
	Role string // sign or handshake; peers has its own roles
	TPM  string
	Keys []keyFile
	For  time.Duration

	Operations []string      // sign: one for each key
	Pause      time.Duration // sign: maximum random pause before each signature

	Address string // handshake: address of the server
	Cert    []byte // handshake: certificate of the server, PEM
	Version uint16
	Resume  int // handshake: resumed handshakes of each client; if 0, full handshakes for the time For

	program string // path of the child's program; empty for this one
}

// A result is the result of a task.
type result struct {
	Done int
	Took time.Duration
	Each []float64 // sign with pauses: duration of each signature, in seconds
}

// runTask runs in the child process.
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

// A child is a child process.
type child struct {
	*exec.Cmd
	in  io.Closer
	out *json.Decoder
}

// childAttr keeps Ctrl-C from a child process, and ends it when this program ends.
var childAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

// startChild starts a child process with a task.
func startChild(t *task) (*child, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(cmp.Or(t.program, "/proc/self/exe"))
	cmd.Env = append(os.Environ(), taskEnv+"="+string(text))
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, childAttr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	return &child{cmd, in, json.NewDecoder(out)}, errors.Join(inErr, outErr, cmd.Start())
}

// result waits for the end of the process and returns its result.
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

// kill kills the process. It may have ended already.
func (c *child) kill() {
	c.Process.Kill()
	c.Wait()
}

// runChildren starts child processes. When all are ready, it calls ready, lets them begin
// at the same time, and returns their results.
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
