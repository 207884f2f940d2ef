package cli

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// shortDir is a directory whose name leaves room on a line.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mute is a TPM, under a path, that takes connections and never answers.
func mute(t *testing.T, path string) (name string) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) // connections wait until then
	return "unix:" + path
}

// slow is a TPM that takes its time for random numbers.
func slow(t *testing.T, delay time.Duration) (name string) {
	t.Helper()
	swtpm := tpmtest.Start(t, tpmtest.TPM20)
	r, err := tpmtest.Listen(filepath.Join(swtpm.Dir, "slow"), filepath.Join(swtpm.Dir, "sock"), false, func(c *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
		if tpmtest.IsCommand(cmd, "GetRandom") {
			time.Sleep(delay)
		}
		return c.Send(cmd)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r.Name
}

const (
	// erased is the end of a text that was on the terminal: the line is empty again.
	erased = `\r +\r`
	// late are the seconds of a wait that is shown. A busy machine skips some.
	late = `([2-9]|\d\d) s`
)

// A command that waits to open a TPM says so after two seconds. It erases the line when the
// wait is over.
func TestAwaitOpening(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	name := mute(t, shortDir(t)+"/s")
	begin := time.Now()
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", name, "-wait", "4s"))
	line := `\rdemo: waiting for the TPM ` + regexp.QuoteMeta(name) + `… `
	p.expect(line + late)
	if took := time.Since(begin); took < waitDelay {
		t.Errorf("it was told after %v", took)
	}
	p.expect(line + late + erased + `demo: error: .*busy`)
	if _, exit := waitSignal(t, p.cmd); exit != exitFailed {
		t.Errorf("exit status %d", exit)
	}
	if strings.Contains(p.text(), "… 0 s") || strings.Contains(p.text(), "… 1 s") {
		t.Errorf("it was told too soon: %q", p.text())
	}
}

// A name that is too long for the line leaves the seconds on it.
func TestAwaitLongName(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, "it waits for seconds")
	dir := filepath.Join(shortDir(t), strings.Repeat("long", 20))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", mute(t, dir+"/s"), "-wait", "3s"))
	p.expect(`\r(demo: waiting for the TPM unix:/.{42}… ` + late + `)` + erased + `demo: error: `)
}

// A command that waits for an operation of the TPM says so. It erases the line before it
// prints anything else.
func TestAwaitOperation(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	name := slow(t, 3500*time.Millisecond)
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", name, "-finish", "10", "word"))
	p.expect(`\rdemo: waiting for the TPM ` + regexp.QuoteMeta(name) + `… ` + late + erased + `busy\r\nfinished\r\nword=word`)
	if _, exit := waitSignal(t, p.cmd); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
}

// A command that shows progress of its own shows nothing else.
func TestAwaitGivesWayToProgress(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", slow(t, 0), "-sleep", "2600", "word"))
	p.expect(`taking its time… \d+ s` + erased + `word=word`)
	if strings.Contains(p.text(), "waiting for") {
		t.Errorf("%q", p.text())
	}
}

// A command shows no wait for the TPM at a prompt. The time at the prompt does not count as one.
func TestAwaitGivesWayToPrompt(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, "it waits for seconds")
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", slow(t, 0), "-need", "key", "-sleep", "100", "-try", "hunter2"))
	p.expect("Secret of the key: $")
	time.Sleep(waitDelay + 500*time.Millisecond)
	p.send("hunter2\n")
	p.expect(`password "hunter2"`)
	if _, exit := waitSignal(t, p.cmd); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	if strings.Contains(p.text(), "waiting for") {
		t.Errorf("%q", p.text())
	}
}

// The time in which a command reads a secret from a file does not count as a wait for the TPM.
func TestAwaitGivesWayToSecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, "it waits for seconds")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	p := startOnPTY(t, demoCommand(t, "-open", "-tpm", slow(t, 0), "-need", "key", "-key-pass", "file:"+secret, "-try", "hunter2"))
	pipe, err := os.OpenFile(secret, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	time.Sleep(waitDelay + 500*time.Millisecond)
	io.WriteString(pipe, "hunter2\n")
	p.expect(`password "hunter2"`)
	if strings.Contains(p.text(), "waiting for") {
		t.Errorf("%q", p.text())
	}
}

// Ctrl-C ends the wait, and leaves no line behind.
func TestAwaitEndsWithSignal(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, "it waits for seconds")
	for name, tpm := range map[string]string{"opening": mute(t, shortDir(t)+"/s"), "operation": slow(t, time.Minute)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startOnPTY(t, demoCommand(t, "-open", "-tpm", tpm, "word"))
			p.expect(`… ` + late)
			p.send("\x03")
			p.expect(`… ` + late + `(\^C)?` + erased)
			if signal, _ := waitSignal(t, p.cmd); signal != syscall.SIGINT {
				t.Errorf("ended with signal %v", signal)
			}
			if !regexp.MustCompile(erased + `$`).MatchString(p.text()) {
				t.Errorf("%q", p.text())
			}
		})
	}
}

// A command shows no wait if standard error is no terminal.
func TestAwaitWithoutTerminal(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, "it waits for seconds")
	cmd := demoCommand(t, "-open", "-tpm", mute(t, shortDir(t)+"/s"), "-wait", "2200ms")
	out, _ := cmd.CombinedOutput()
	if text := string(out); strings.Contains(text, "waiting") || !strings.Contains(text, "busy") {
		t.Errorf("%q", text)
	}
}
