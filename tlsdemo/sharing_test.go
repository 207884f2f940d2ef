package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// inTPM is how many keys and sessions are in the TPM, or were saved, as it says itself.
func (r *rig) inTPM() (keys, sessions int) {
	r.t.Helper()
	dev, err := transport.Open(r.swtpm.Socket, time.Minute)
	if err != nil {
		r.t.Fatal(err)
	}
	defer dev.Close()
	if r.swtpm.Is20() {
		return r.handles(dev, 0x80000000), r.handles(dev, 0x02000000) + r.handles(dev, 0x03000000)
	}
	conn := tpm12.New(dev)
	loaded, err := conn.LoadedKeys()
	if err != nil {
		r.t.Fatal(err)
	}
	open, err := conn.Sessions()
	if err != nil {
		r.t.Fatal(err)
	}
	saved, err := conn.SavedSessions()
	if err != nil {
		r.t.Fatal(err)
	}
	return len(loaded), len(open) + len(saved)
}

func (r *rig) wantNothingInTPM() {
	r.t.Helper()
	if keys, sessions := r.inTPM(); keys+sessions > 0 {
		r.t.Errorf("%d keys and %d sessions are in the TPM", keys, sessions)
	}
}

// handles is how many handles of one kind a TPM 2.0 has.
func (r *rig) handles(dev *transport.Device, first uint32) int {
	r.t.Helper()
	all, err := tpmtest.Handles20(dev, first)
	if err != nil {
		r.t.Fatal(err)
	}
	return len(all)
}

// hold has this program keep the TPM to itself until the end that it returns.
func (r *rig) hold() (end func() error) {
	r.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(r.swtpm.Socket, "unix:"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	// TPM_GetCapability, to see that the TPM serves this connection; a TPM 2.0 refuses it.
	if _, err := conn.Write([]byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 6, 0, 0, 0, 0}); err != nil {
		r.t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		r.t.Fatal(err)
	}
	return conn.Close
}

// answerPrompts has a program answer what processes ask for. asked is how often they did.
func answerPrompts(t *testing.T) (asked func() int) {
	t.Helper()
	dir := t.TempDir()
	program, log := filepath.Join(dir, "askpass"), filepath.Join(dir, "asked")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho asked >>'"+log+"'\necho motdepasse\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_ASKPASS", program)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	return func() int {
		said, _ := os.ReadFile(log) // there is none before the first time
		return strings.Count(string(said), "asked\n")
	}
}

// Secrets that were asked for, or read, are there when the TPM restarts: nobody is
// asked again, and there may be nobody.
func TestAsksOnce(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	both(t, "auth", []byte("motdepasse"), testAsksOnce)
}

func testAsksOnce(t *testing.T, r *rig) {
	asked := answerPrompts(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	io.WriteString(writer, "\n") // the SRK's secret: an empty password
	writer.Close()
	p := r.startFrom(reader, "-srk-pass", "stdin", "-key-pass", "prompt")
	for range 2 {
		p.get()
		r.swtpm.Restart()
	}
	p.get()
	if times := asked(); times != 1 {
		t.Errorf("asked %d times", times)
	}
	p.stop()
	r.wantNothingInTPM()
}

// It is ended while a signature waits for another program, and frees the key when
// that lets go of the TPM.
func TestEndsWhileOthersHoldTheTPM(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "auth", []byte("motdepasse"), testEndsWhileOthersHoldTheTPM)
}

func testEndsWhileOthersHoldTheTPM(t *testing.T, r *rig) {
	t.Parallel()
	p := r.start("-key-pass", "env:LE_MOT")
	p.get()
	end := r.hold()
	go p.client().Get("https://" + p.addr + "/")
	time.Sleep(200 * time.Millisecond)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.log.await(t, "stopping")
	time.Sleep(200 * time.Millisecond)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
	r.wantNothingInTPM()
}

// -wait bounds a signature's wait, and what it is for is told.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testWaitIsBounded)
}

func testWaitIsBounded(t *testing.T, r *rig) {
	t.Parallel()
	p := r.start("-wait", "300ms")
	p.get()
	end := r.hold()
	p.refused(1)
	mention(t, p.log.await(t, "handshakes fail"), "TPM is busy", "waited 300ms")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	p.get()
	p.log.await(t, "the key signs again")
}

// panickingListener takes in connections that find a mistake in whoever reads them.
type panickingListener struct{ net.Listener }

func (l panickingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return panickingConn{c}, err
}

type panickingConn struct{ net.Conn }

func (panickingConn) Read([]byte) (int, error) { panic("read") }

// A mistake in a handshake ends that, and not the program with the key.
func TestPanicInHandshake(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	r := newRig(t, "maclef", nil)
	r.listener = func(l net.Listener) net.Listener { return panickingListener{l} }
	run := r.serve(nil)
	for range 2 {
		c, err := net.Dial("tcp", run.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "bonjour")
		if rest, _ := io.ReadAll(c); !bytes.Equal(rest, nil) {
			t.Errorf("it answered %q", rest)
		}
		c.Close()
	}
	run.log.await(t, "panic in the handshake: read: ")
}
