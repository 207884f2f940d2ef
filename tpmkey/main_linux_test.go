package tpmkey_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
	"maclef/tpmkey"
)

// TestMain lets the test binary be another process that uses a TPM.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "user" {
		p := &program{user: user{name: os.Args[2]}}
		p.run()
		return
	}
	os.Exit(tpmtest.Tests{TestingM: m}.Run())
}

// A user is what a program is that only uses keys: see program.
type user struct {
	name string
	tpm  *tpmkey.TPM
	keys []*tpmkey.Key
	conn net.Conn
}

// obey does one of: open; load FILE N; sign N; sign-for DURATION; close; hold
// (takes the socket as a program does that shares nothing); drop.
func (u *user) obey(words []string) (n int, err error) {
	switch words[0] {
	case "open":
		u.tpm, err = tpmkey.Open(context.Background(), u.name)
		return 0, err
	case "load":
		n, _ = strconv.Atoi(words[2])
		return n, u.load(words[1], n)
	case "sign":
		n, _ = strconv.Atoi(words[1])
		return u.sign(func(i int) bool { return i < n })
	case "sign-for":
		d, _ := time.ParseDuration(words[1])
		end := time.Now().Add(d)
		return u.sign(func(int) bool { return time.Now().Before(end) })
	case "close":
		return 0, u.tpm.Close()
	case "hold":
		return 0, u.hold()
	case "drop":
		return 0, u.conn.Close()
	}
	return 0, fmt.Errorf("unknown: %v", words)
}

func (u *user) load(file string, n int) error {
	for range n {
		k, err := u.tpm.LoadFile(context.Background(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: motdepasse()})
		if err != nil {
			return err
		}
		u.keys = append(u.keys, k)
	}
	return nil
}

// sign signs with one key after the other, verifies, and counts.
func (u *user) sign(more func(i int) bool) (n int, err error) {
	for ; more(n); n++ {
		if err := signs(u.keys[n%len(u.keys)], n); err != nil {
			return n, err
		}
	}
	return n, nil
}

// hold connects to swtpm and is served.
func (u *user) hold() (err error) {
	if u.conn, err = net.Dial("unix", strings.TrimPrefix(u.name, "unix:")); err != nil {
		return err
	}
	return getVersion(u.conn)
}

// getVersion has a TPM say its version: TPM Main Part 3, section 7.1.
func getVersion(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(frame.Probe()); err != nil {
		return err
	}
	reply, err := frame.Read(conn)
	if err != nil {
		return err
	}
	if reply[0] == 0x80 { // a TPM 2.0, which does not know the command, but has served it
		return nil
	}
	if reply[9] != 0 {
		return fmt.Errorf("it answered %x", reply)
	}
	return nil
}

// A process is a user in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startUsers are n processes that have opened a TPM and loaded keys.
func startUsers(t *testing.T, n int, name, file string, keys int) (all []*process) {
	t.Helper()
	for range n {
		all = append(all, startProgram(t, name, nil))
	}
	for _, p := range all {
		p.tell("open")
		p.tell(fmt.Sprintf("load %s %d", file, keys))
	}
	for _, p := range all {
		p.done()
		p.done()
	}
	return all
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *process) tell(line string) { fmt.Fprintln(p.in, line) }

// result reads the process's next line.
func (p *process) result() (n int, err error) {
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the other process ended: %w", err)
	}
	words := strings.SplitN(strings.TrimSpace(line), " ", 3)
	n, _ = strconv.Atoi(words[1])
	if words[0] != "done" {
		return n, errors.New(words[2])
	}
	return n, nil
}

// done reads the process's next line, which must be no error.
func (p *process) done() int {
	p.t.Helper()
	n, err := p.result()
	if err != nil {
		p.t.Fatalf("another process: %v", err)
	}
	return n
}

func (p *process) ask(line string) int {
	p.t.Helper()
	p.tell(line)
	return p.done()
}
