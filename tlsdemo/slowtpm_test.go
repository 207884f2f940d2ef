package main

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// A slowTPM stands before a software TPM, takes its time for signatures, as
// chips do, and counts. Like swtpm it serves one connection at a time, and
// leaves the next ones waiting.
type slowTPM struct {
	name     string       // for -tpm
	delay    atomic.Int64 // of a signature, a time.Duration
	commands atomic.Int64
	signs    atomic.Int64
	done     atomic.Int64 // of them
}

// newSlowTPM serves until the end of the test.
func newSlowTPM(t *testing.T, swtpm *tpmtest.SWTPM) *slowTPM {
	t.Helper()
	s := new(slowTPM)
	r, err := tpmtest.Listen(filepath.Join(swtpm.Dir, "slow"), filepath.Join(swtpm.Dir, "sock"), true, s.pass)
	if err != nil {
		t.Fatal(err)
	}
	s.name = r.Name
	t.Cleanup(func() {
		r.Close()
		s.delay.Store(0)
		r.Wait()
	})
	return s
}

// rest returns when no signature is being made.
func (s *slowTPM) rest() {
	for s.done.Load() < s.signs.Load() {
		time.Sleep(time.Millisecond)
	}
}

func (s *slowTPM) pass(c *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
	s.commands.Add(1)
	if !tpmtest.IsCommand(cmd, "Sign") && !tpmtest.IsCommand(cmd, "RSA_Decrypt") { // which RSA-PSS is made by
		return c.Send(cmd)
	}
	s.signs.Add(1)
	time.Sleep(time.Duration(s.delay.Load()))
	rsp, err := c.Send(cmd)
	if err == nil {
		s.done.Add(1)
	}
	return rsp, err
}
