package cli

import (
	"maclef/internal/tpmtest"
	"syscall"
	"testing"
)

// Ctrl-D sends what was typed, and is no Enter.
func TestConfirmEndsWithEnter(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]int{"yes\n": 0, "yes\x04\x04": 1, "\x04": 1} {
		p := startOnPTY(t, demoCommand(t, "-confirm", "word"))
		p.expect("Type yes to go on: $")
		p.send(keys)
		if signal, exit := waitSignal(t, p.cmd); signal != 0 || exit != want {
			t.Errorf("%q: signal %v, exit status %d: %q", keys, signal, exit, p.text())
		}
	}
}

func TestConfirmEndsWithSignal(t *testing.T) {
	t.Parallel()
	p := startOnPTY(t, demoCommand(t, "-confirm", "word"))
	p.expect("Type yes to go on: $")
	p.send("\x03")
	p.expect(`Type yes to go on: (\^C)?\r\ndemo: note: nothing was done\r\n$`)
	if signal, _ := waitSignal(t, p.cmd); signal != syscall.SIGINT {
		t.Errorf("ended with signal %v: %q", signal, p.text())
	}
}

// The first signal lets the command finish what must not be cut short. The second ends it at
// once.
func TestFinishOnSignal(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	p := startOnPTY(t, demoCommand(t, "-finish", "3000", "word"))
	p.expect("busy")
	p.send("\x03")
	p.expect("demo: note: finishing")
	p.expect("finished")
	if signal, _ := waitSignal(t, p.cmd); signal != syscall.SIGINT {
		t.Errorf("ended with signal %v: %q", signal, p.text())
	}
	p = startOnPTY(t, demoCommand(t, "-finish", "60000", "word"))
	p.expect("busy")
	p.send("\x03")
	p.expect("demo: note: finishing")
	p.send("\x03")
	p.expect("demo: note: not finished")
	if signal, _ := waitSignal(t, p.cmd); signal != syscall.SIGINT {
		t.Errorf("ended with signal %v: %q", signal, p.text())
	}
}
