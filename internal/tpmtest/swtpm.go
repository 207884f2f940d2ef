package tpmtest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport/frame"
)

// A State is the state with which a software TPM starts.
type State struct {
	file     string // recorded state under testdata; empty for a new TPM
	tpm2     bool
	commands [][]byte     // sent once to a new TPM
	prepare  func(*SWTPM) // called once after the first start
}

// States of TPM 1.2. The README in testdata lists the owner and SRK secrets.
var (
	// Tutorial owns the keys of tpm12-tutorial.
	Tutorial = State{file: "tpm12-tutorial/tpm-00.permall"}
	// WellKnown owns the keys of tpm12-wellknown.
	WellKnown = State{file: "tpm12-wellknown/tpm-00.permall"}
	// Fresh is a new TPM 1.2 as libtpms makes it: enabled and active, without endorsement
	// key and owner.
	Fresh = State{}
	// Disabled is a new TPM 1.2 after TPM_PhysicalDisable.
	Disabled = State{commands: [][]byte{cmdEnablePresence, presence, physicalDisable}}
	// Deactivated is a new TPM 1.2 after TPM_PhysicalSetDeactivated(TRUE) and a restart.
	Deactivated = State{commands: [][]byte{cmdEnablePresence, presence, setDeactivated}}
)

// A SWTPM is a running software TPM of one test.
type SWTPM struct {
	// Dir contains the state; nothing else uses it.
	Dir string
	// Socket is the name for transport.Open: "unix:PATH" of its data channel.
	Socket string
	// Control is the path of its control channel.
	Control string

	t     testing.TB
	state State
	cmd   *exec.Cmd
	log   *bytes.Buffer
	ended chan struct{} // closed when the program has been waited for
}

// Start starts a software TPM with a copy of a state. It ends with the test. If swtpm is
// not installed, the test fails.
func Start(t testing.TB, state State) *SWTPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "t") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &SWTPM{
		Dir:     dir,
		Socket:  "unix:" + filepath.Join(dir, "sock"),
		Control: filepath.Join(dir, "ctrl"),
		t:       t,
		state:   state,
	}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	if state.file != "" {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(state.file)), Fixture(t, state.file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.run()
	if len(state.commands) > 0 {
		s.Send(state.commands...)
		s.Restart()
	}
	if state.prepare != nil {
		state.prepare(s)
	}
	return s
}

// Dial connects to the TPM. Other clients wait until the connection is closed.
func (s *SWTPM) Dial() transport.TPMCloser {
	s.t.Helper()
	conn, err := net.Dial("unix", s.path())
	if err != nil {
		s.t.Fatal(err)
	}
	return rawConn{conn, time.Minute}
}

// A rawConn is a connection to a TPM. limit is how long a response may take; 0 means no
// limit.
type rawConn struct {
	net.Conn
	limit time.Duration
}

func (c rawConn) Send(cmd []byte) ([]byte, error) {
	if c.limit > 0 {
		c.SetDeadline(time.Now().Add(c.limit))
	}
	if _, err := c.Write(cmd); err != nil {
		return nil, err
	}
	return frame.Read(c)
}

// Is20 reports whether this is a TPM 2.0.
func (s *SWTPM) Is20() bool { return s.state.tpm2 }

// Kill ends it with SIGKILL, like a crash. Its state stays.
func (s *SWTPM) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Restart kills it and starts it with its state. Loaded keys are lost. For a TPM 2.0 see
// also [SWTPM.Shutdown].
func (s *SWTPM) Restart() {
	s.t.Helper()
	s.Kill()
	s.run()
}

// Send opens a connection, sends prebuilt commands, and fails the test unless all succeed.
// No other client may be connected.
func (s *SWTPM) Send(commands ...[]byte) {
	s.t.Helper()
	tpm := s.Dial()
	defer tpm.Close()
	for _, cmd := range commands {
		rsp, err := tpm.Send(cmd)
		if err != nil || !bytes.Equal(rsp[6:10], []byte{0, 0, 0, 0}) {
			s.t.Fatalf("swtpm answered %x to %x: %v", rsp, cmd, err)
		}
	}
}

// path returns the path of the data channel.
func (s *SWTPM) path() string { return filepath.Join(s.Dir, "sock") }

// run starts the program and waits until it listens.
func (s *SWTPM) run() {
	s.t.Helper()
	args := []string{"socket", "--tpmstate", "dir=.", "--server", "type=unixio,path=sock",
		"--ctrl", "type=unixio,path=ctrl", "--flags", "not-need-init,startup-clear"}
	if s.state.tpm2 {
		args = append(args, "--tpm2")
	}
	program, err := exec.LookPath("swtpm")
	if err != nil {
		s.t.Fatalf("tests need the program swtpm: run make test, which installs it (%v)", err)
	}
	s.log = new(bytes.Buffer)
	s.cmd = exec.Command(program, args...)
	s.cmd.Dir = s.Dir
	s.cmd.Stderr = s.log
	s.cmd.SysProcAttr = processAttr()
	os.Remove(s.path()) // left by a killed swtpm
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		s.t.Fatal(err)
	}
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
	s.await()
}

// await waits until swtpm answers. swtpm takes connections before it has read its state.
func (s *SWTPM) await() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if s.answers() {
			return
		}
		select {
		case <-s.ended:
			deadline = time.Now()
		case <-time.After(2 * time.Millisecond):
		}
	}
	s.Kill()
	s.t.Fatalf("swtpm did not start in %s: %s", s.Dir, s.log)
}

// answers sends a command that a TPM 1.2 carries out and a TPM 2.0 refuses.
func (s *SWTPM) answers() bool {
	conn, err := net.Dial("unix", s.path())
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(frame.Probe())
	n, err := conn.Read(make([]byte, 4096))
	return err == nil && n >= 10
}

// ImplicitRejection reports whether the software TPM decrypts a PKCS#1 v1.5 ciphertext with
// wrong padding to random bytes and returns success. It does with OpenSSL 3.2 and later.
var ImplicitRejection = sync.OnceValue(func() bool {
	out, err := exec.Command("openssl", "version").Output()
	m := regexp.MustCompile(`^OpenSSL (\d+)\.(\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > 3 || major == 3 && minor >= 2
})
