package main

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// ordSign is TPM_ORD_Sign: TPM Main Part 2, section 17.
const ordSign = 0x3c

// A slowTPM stands before a software TPM, takes its time for signatures, as
// chips do, and counts. Like swtpm it serves one connection at a time, and
// leaves the next ones waiting.
type slowTPM struct {
	name     string // for -tpm
	target   string
	delay    atomic.Int64 // of a signature, a time.Duration
	commands atomic.Int64
	signs    atomic.Int64
	done     atomic.Int64 // of them
}

// newSlowTPM serves until the end of the test.
func newSlowTPM(t *testing.T, swtpm *tpmtest.SWTPM) *slowTPM {
	t.Helper()
	path := filepath.Join(swtpm.Dir, "slow")
	s := &slowTPM{name: "unix:" + path, target: filepath.Join(swtpm.Dir, "sock")}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			s.pass(client)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		s.delay.Store(0)
		<-ended
	})
	return s
}

// rest returns when no signature is being made.
func (s *slowTPM) rest() {
	for s.done.Load() < s.signs.Load() {
		time.Sleep(time.Millisecond)
	}
}

// pass carries commands and responses of one client.
func (s *slowTPM) pass(client net.Conn) {
	defer client.Close()
	tpm, err := net.Dial("unix", s.target)
	if err != nil {
		return
	}
	defer tpm.Close()
	for {
		cmd, err := readMessage(client)
		if err != nil {
			return
		}
		s.commands.Add(1)
		signs := binary.BigEndian.Uint32(cmd[6:]) == ordSign
		if signs {
			s.signs.Add(1)
			time.Sleep(time.Duration(s.delay.Load()))
		}
		if _, err := tpm.Write(cmd); err != nil {
			return
		}
		rsp, err := readMessage(tpm)
		if err != nil {
			return
		}
		if signs {
			s.done.Add(1)
		}
		if _, err := client.Write(rsp); err != nil {
			return
		}
	}
}

// readMessage reads a command or a response: tag, size, ordinal or result, rest.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, max(10, binary.BigEndian.Uint32(head[2:]))-10)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}
