package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

// TestMain lets the test binary be another process that uses a TPM.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "user" {
		beUser(os.Args[2])
		return
	}
	os.Exit(tpmtest.Tests{TestingM: m}.Run())
}

// beUser opens a TPM and obeys the lines of its standard input, answering each.
func beUser(name string) {
	d, err := openNow(name)
	fmt.Println("open", kind(err), err)
	if err != nil {
		return
	}
	release := func() {}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		switch word, arg, _ := strings.Cut(in.Text(), " "); word {
		case "send":
			err = sendMany(d, arg)
		case "hex": // one command; the response follows "done …"
			err = sendHex(d, arg)
		case "acquire":
			release, err = d.Acquire(context.Background(), time.Time{})
		case "release":
			release()
		case "exit": // without Close
			return
		}
		fmt.Println("done", kind(err), err)
	}
}

func sendMany(d *Device, count string) error {
	n, _ := strconv.Atoi(count)
	for range n {
		if err := alive(d); err != nil {
			return err
		}
	}
	return nil
}

// sendHex sends a command. Its error is the response, if that has a result code.
func sendHex(d *Device, text string) error {
	cmd, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	rsp, err := d.Send(cmd)
	if err == nil && frame.Code(rsp) != 0 {
		err = fmt.Errorf("result code %#x", frame.Code(rsp))
	}
	return err
}

// alive checks that a TPM 1.2 answers.
func alive(d *Device) error {
	rsp, err := d.Send(probeCommand)
	if err == nil && !bytes.Equal(rsp, []byte{0, 0xC4, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 4, 1, 1, 0, 0}) {
		err = fmt.Errorf("it answered %x", rsp)
	}
	return err
}

// kind names the sentinel of an error in one word.
func kind(err error) string {
	for word, sentinel := range map[string]error{"no-tpm": ErrNoTPM, "permission": ErrPermission,
		"busy": ErrBusy, "gone": ErrGone, "no-swtpm": ErrNoSWTPM} {
		if errors.Is(err, sentinel) {
			return word
		}
	}
	if err != nil {
		return "other"
	}
	return "ok"
}

// process is a user in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startUser runs beUser(name) in another process; change may alter it.
func startUser(t *testing.T, name string, change func(*exec.Cmd)) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "user", name)
	cmd.Stderr = os.Stderr
	if change != nil {
		change(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() { p.signal(syscall.SIGKILL) })
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.cmd.Process.Signal(s)
	if s == syscall.SIGKILL {
		p.cmd.Wait()
	}
}

// answer reads the process's next line.
func (p *process) answer() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the other process ended: %v %q", err, line)
	}
	return strings.TrimSpace(line)
}

func (p *process) ask(line string) string {
	p.t.Helper()
	fmt.Fprintln(p.in, line)
	return p.answer()
}

// want checks an answer's beginning.
func (p *process) want(prefix, got string) {
	p.t.Helper()
	if !strings.HasPrefix(got, prefix) {
		p.t.Fatalf("got %q, want %q", got, prefix)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// programs returns the names of the processes at work in a directory, sorted.
func programs(dir string) (names []string) {
	found, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range found {
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			comm, err := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
			if err == nil {
				names = append(names, strings.TrimSpace(string(comm)))
			}
		}
	}
	slices.Sort(names)
	return names
}

// pidOf returns the number of a program at work in a directory.
func pidOf(t *testing.T, dir, program string) int {
	t.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range found {
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if cwd, err := os.Readlink(link); err == nil && cwd == dir && strings.TrimSpace(string(comm)) == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			return pid
		}
	}
	t.Fatalf("no %s at work in %s", program, dir)
	return 0
}

// killProgram kills a program at work in a directory, and waits for its end.
func killProgram(t *testing.T, dir, program string) {
	t.Helper()
	pid := pidOf(t, dir, program)
	syscall.Kill(pid, syscall.SIGKILL)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return // gone, or waiting for its parent
		}
		time.Sleep(time.Millisecond)
	}
}

// emptied fails the test unless all programs leave a directory soon.
func emptied(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(programs(dir)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still at work in %s: %v", dir, programs(dir))
		}
	}
}

// stateDir is a directory for an emulator, which is gone before the test ends.
func stateDir(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "state")
	t.Cleanup(func() { emptied(t, dir) })
	return dir
}

// mustOpen opens a TPM that the test closes at its end.
func mustOpen(t *testing.T, name string) *Device {
	t.Helper()
	d, err := openNow(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// mustAcquire begins a turn, which ends with the test at the latest.
func mustAcquire(t *testing.T, d *Device) (release func()) {
	t.Helper()
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return release
}

// asNobody runs a user process without any rights, if this one can do that.
func asNobody(c *exec.Cmd) {
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	c.Dir = "/"
}

// publicDir is a directory that everybody may enter; its parents, too.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// openNow opens a TPM and takes a first turn, to see that it is there.
func openNow(name string) (*Device, error) {
	return opener{timeouts: defaultTimeouts(), devices: "/dev"}.open(context.Background(), name)
}

func (o opener) open(ctx context.Context, name string) (*Device, error) {
	d, err := o.find(name)
	if err != nil {
		return nil, err
	}
	release, err := d.Acquire(ctx, time.Time{})
	if err != nil {
		d.Close()
		return nil, err
	}
	release()
	return d, nil
}
