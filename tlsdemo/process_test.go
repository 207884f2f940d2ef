package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A process is tlsdemo as its users start it.
type process struct {
	*rig
	cmd   *exec.Cmd
	log   *safeBuffer
	addr  string
	ended chan error
}

var serving = regexp.MustCompile(`tlsdemo: serving https://(localhost:\d+) with `)

// start starts tlsdemo and waits until it serves.
func (r *rig) start(more ...string) *process { return r.startFrom(nil, more...) }

func (r *rig) startFrom(stdin *os.File, more ...string) *process {
	r.t.Helper()
	p := &process{rig: r, log: new(safeBuffer), ended: make(chan error, 1)}
	args := append([]string{os.Args[0]}, r.args(append([]string{"-accept", "localhost:0"}, more...)...)...)
	if r.descriptors > 0 {
		args = append([]string{"sh", "-c", `ulimit -n $0 && exec "$@"`, strconv.Itoa(r.descriptors)}, args...)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(os.Environ(), "TLSDEMO_RUN=1")
	p.cmd.Stderr = p.log
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.t.Cleanup(func() { p.cmd.Process.Kill() })
	p.addr = serving.FindStringSubmatch(p.log.await(r.t, "Ctrl-C stops"))[1]
	return p
}

// end waits for the end and returns how it was.
func (p *process) end() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(20 * time.Second):
		p.t.Fatalf("tlsdemo does not end\n%s", p.log)
		return nil
	}
}

// stop ends the program as Ctrl-C does.
func (p *process) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	if err := p.end(); err != nil {
		p.t.Errorf("%v\n%s", err, p.log)
	}
}

func (p *process) get() string {
	p.t.Helper()
	rsp, err := p.client().Get("https://" + p.addr + "/")
	if err != nil {
		p.t.Fatal(err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

// freeKeys is how many keys the TPM has room for.
func (r *rig) freeKeys() int { return r.status().FreeKeys }

func (r *rig) status() *tpmkey.Status {
	r.t.Helper()
	tpm := r.open()
	defer tpm.Close()
	s, err := tpm.Status(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestSignalsEndItCleanly(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	for name, sig := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "maclef", nil)
			free := r.freeKeys()
			p := r.start()
			p.get()
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := p.end(); err != nil {
				t.Errorf("%v\n%s", err, p.log)
			}
			if now := r.freeKeys(); now != free {
				t.Errorf("room for %d keys, before it %d", now, free)
			}
			if !bytes.Contains([]byte(p.log.String()), []byte("stopping after 1 handshake")) {
				t.Error(p.log)
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	r := newRig(t, "maclef", nil)
	p := r.start()
	p.hang()
	begin := time.Now()
	p.cmd.Process.Signal(os.Interrupt)
	p.log.await(t, "stopping")
	p.cmd.Process.Signal(os.Interrupt)
	if err := p.end(); err == nil {
		t.Error("exit 0 after a second signal")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// hang begins a request that does not end, one that never begins properly, and
// a handshake that does not either.
func (p *process) hang() {
	p.t.Helper()
	io.WriteString(p.dial(p.addr), "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
	io.WriteString(p.dial(p.addr), "GET / HTTP/1.1\r\nHost: local")
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	p.log.await(p.t, "POST / 405")
}

func TestStopsThoughARequestHangs(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	r := newRig(t, "maclef", nil)
	free := r.freeKeys()
	p := r.start()
	p.hang()
	p.stop()
	if now := r.freeKeys(); now != free {
		t.Errorf("room for %d keys, before it %d", now, free)
	}
}
