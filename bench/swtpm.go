//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A softTPM is swtpm over a state of its own, on a Unix socket. Its methods may be
// called from one goroutine at a time, remove from any.
type softTPM struct {
	dir        string
	data       string // the data channel
	generation generation

	mu      sync.Mutex
	removed bool
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the program has been waited for
	log     *bytes.Buffer // to be read when it has ended
}

// newSoftTPM makes a TPM as libtpms makes it, a TPM 1.2 without an owner, and starts
// it.
func newSoftTPM(g generation) (*softTPM, error) {
	dir, err := os.MkdirTemp("", "bench") // short: a socket's path has 107 bytes
	if err != nil {
		return nil, err
	}
	s := &softTPM{dir: dir, data: "tpm", generation: g}
	err = errors.Join(s.control("tpm"), s.control("proxy"), s.control("slow"), s.start())
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, s.await()
}

// name is what tpmkey.Open takes.
func (s *softTPM) name() string { return "unix:" + s.socket() }

// socket is the path of the data channel.
func (s *softTPM) socket() string { return s.path(s.data) }

// behind is the same TPM for who comes to it by another socket beside its own.
func (s *softTPM) behind(data string) *softTPM {
	return &softTPM{dir: s.dir, data: data, generation: s.generation}
}

// control puts the control channel where tpm2-tss looks for it: beside the data
// channel.
func (s *softTPM) control(data string) error { return os.Symlink("control", s.path(data+".ctrl")) }

// path is that of a file that is removed with the TPM.
func (s *softTPM) path(name string) string { return filepath.Join(s.dir, name) }

// start starts the program, and returns when its socket is there.
func (s *softTPM) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return os.ErrClosed
	}
	os.Remove(s.socket()) // left by one that was killed
	s.log = new(bytes.Buffer)
	s.cmd = exec.Command("swtpm", append([]string{"socket", "--tpmstate", "dir=.", "--server", "type=unixio,path=tpm",
		"--ctrl", "type=unixio,path=control", "--flags", "not-need-init,startup-clear"}, s.generation.flags()...)...)
	s.cmd.Dir, s.cmd.Stderr = s.dir, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
	for {
		if _, err := os.Stat(s.socket()); err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("swtpm ended at once: %s", s.log)
		case <-time.After(time.Millisecond):
		}
	}
}

// await returns when the TPM answers.
func (s *softTPM) await() error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := s.direct(func(d *direct) error {
			_, err := d.Send(s.generation.hello())
			return err
		})
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// kill ends the program with SIGKILL, as a crash would; its state stays.
func (s *softTPM) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.cmd.Process.Kill()
		<-s.ended
		s.cmd = nil
	}
}

// remove ends the program and forgets the state.
func (s *softTPM) remove() {
	s.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = true
	for range 10 { // who still writes there is about to find out
		if os.RemoveAll(s.dir) == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

// pid is that of the program.
func (s *softTPM) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// direct connects to the TPM past the library for as long as use takes. swtpm
// serves one client: whoever else is connected makes it wait, in the end fail.
func (s *softTPM) direct(use func(*direct) error) error {
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(directLimit)); err != nil {
		return err
	}
	err = use(&direct{conn: conn})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("swtpm was not to be had for %v: %w", directLimit, err)
	}
	return err
}

// directLimit is longer than any use of a direct connection.
const directLimit = 30 * time.Second
