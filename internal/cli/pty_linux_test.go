package cli

import (
	"errors"
	"fmt"
	"maclef/internal/tpmtest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// demoCommand is this test binary as the command demo.
func demoCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{
		Path: exe,
		Args: append([]string{"demo"}, args...),
		Env:  append(os.Environ(), "GORACE=atexit_sleep_ms=0"),
	}
}

// A pty is a terminal with a command on it.
type pty struct {
	t             *testing.T
	master, slave *os.File
	cmd           *exec.Cmd

	mu  sync.Mutex
	out strings.Builder
}

// startOnPTY runs cmd with a pseudo-terminal as its controlling terminal and
// its streams.
func startOnPTY(t *testing.T, cmd *exec.Cmd) *pty {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: os.NewFile(uintptr(fd), "ptmx"), slave: slave, cmd: cmd}
	t.Cleanup(func() { p.master.Close(); p.slave.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	go p.collect()
	return p
}

func (p *pty) collect() {
	buf := make([]byte, 1024)
	for {
		n, err := p.master.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.out.Write(buf[:n])
		p.mu.Unlock()
	}
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// expect waits until the terminal shows something.
func (p *pty) expect(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if re.MatchString(p.text()) {
			return
		}
	}
	p.t.Fatalf("terminal never showed %q: %q", pattern, p.text())
}

func (p *pty) send(text string) {
	p.t.Helper()
	if _, err := p.master.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) echoes() bool {
	p.t.Helper()
	termios, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}

// waitSignal waits for the command and returns the signal it died of, 0 if none.
func waitSignal(t *testing.T, cmd *exec.Cmd) (syscall.Signal, int) {
	t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return status.Signal(), -1
	}
	return 0, status.ExitStatus()
}

func TestPromptHidesAndRestores(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		end        func(p *pty)
		wantSignal syscall.Signal
		wantExit   int
		wantText   string
	}{
		{name: "answered", end: func(p *pty) { p.send("hunter2\n") }, wantText: `password "hunter2"`},
		{name: "erased and typed again", end: func(p *pty) { p.send("wrong\x15hunteR\x7f2\n") }, wantText: `unknown`},
		{name: "continued after Ctrl-Z", end: func(p *pty) {
			p.cmd.Process.Signal(syscall.SIGCONT)
			p.expect("(?s)Secret of the key: .*Secret of the key: ")
			p.send("hunter2\n")
		}, wantText: `password "hunter2"`},
		{name: "Ctrl-C", end: func(p *pty) { p.send("hunt\x03") }, wantSignal: syscall.SIGINT, wantExit: -1},
		{name: "Ctrl-D", end: func(p *pty) { p.send("\x04") }, wantExit: 1, wantText: "error: load key: -key-pass: cancelled at the prompt"},
		{name: "SIGTERM", end: func(p *pty) { p.cmd.Process.Signal(syscall.SIGTERM) }, wantSignal: syscall.SIGTERM, wantExit: -1},
		{name: "Ctrl-backslash", end: func(p *pty) { p.send("hunt\x1c") }, wantExit: 2, wantText: "SIGQUIT: quit"}, // as the Go runtime has it
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startOnPTY(t, demoCommand(t, "-need", "key", "-try", "hunter2"))
			p.expect("Secret of the key: ")
			if p.echoes() {
				t.Error("the terminal echoes at the prompt")
			}
			test.end(p)
			signal, exit := waitSignal(t, p.cmd)
			if signal != test.wantSignal || exit != test.wantExit {
				t.Errorf("ended with signal %v, status %d; want %v, %d: %q", signal, exit, test.wantSignal, test.wantExit, p.text())
			}
			if !p.echoes() {
				t.Error("the terminal does not echo afterwards")
			}
			p.expect(regexp.QuoteMeta(test.wantText))
			if before, _, _ := strings.Cut(p.text(), "password"); strings.Contains(before, "hunt") {
				t.Errorf("the secret was shown: %q", p.text())
			}
		})
	}
}

// A prompt that nobody can answer any more ends, even where SIGHUP is ignored.
func TestPromptEndsWhenTerminalHangsUp(t *testing.T) {
	t.Parallel()
	script := `trap "" HUP; exec -a demo "$0" -need key`
	p := startOnPTY(t, exec.Command("bash", "-c", script, demoCommand(t).Path))
	p.expect("Secret of the key: ")
	p.slave.Close()
	p.master.Close()
	if signal, exit := waitSignal(t, p.cmd); signal != 0 || exit != 1 {
		t.Errorf("ended with signal %v, status %d", signal, exit)
	}
}

func TestProgress(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	p := startOnPTY(t, demoCommand(t, "-sleep", "1600", "word"))
	p.expect(`\rdemo: taking its time… 0 s`)
	p.expect(`\rdemo: taking its time… 1 s`)
	if _, exit := waitSignal(t, p.cmd); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	p.expect(`[1-9] s\r {26}\rword=word`)
}

func TestProgressIsOver(t *testing.T) {
	p := startOnPTY(t, demoCommand(t, "-sleep", "20", "word"))
	if _, exit := waitSignal(t, p.cmd); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	p.expect("word=word")
	if strings.Contains(p.text(), "taking") {
		t.Errorf("progress of something short was shown: %q", p.text())
	}
}

func TestProgressGivesWayToPromptAndSignal(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	p := startOnPTY(t, demoCommand(t, "-sleep", "400", "-need", "key"))
	p.expect("taking its time")
	p.expect(`\r +\rSecret of the key: $`)
	time.Sleep(1100 * time.Millisecond) // a tick falls into the prompt
	if !strings.HasSuffix(p.text(), "\rSecret of the key: ") {
		t.Errorf("progress wrote into the prompt: %q", p.text())
	}
	begin := time.Now()
	p.send("\x03")
	if signal, _ := waitSignal(t, p.cmd); signal != syscall.SIGINT {
		t.Errorf("ended with signal %v", signal)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("Ctrl-C took %v", took)
	}
}
