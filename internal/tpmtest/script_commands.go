package tpmtest

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/transport/frame"
)

// cmdHold is "hold": the test program occupies the TPM until "hold end", like a program
// that does not share it.
func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	held := ts.Value(keyHold).(*transport.TPMCloser)
	switch {
	case neg, len(args) > 1, len(args) == 1 && args[0] != "end":
		ts.Fatalf("usage: hold [end]")
	case len(args) == 1:
		ts.Check((*held).Close())
		return
	}
	conn := swtpmOf(ts).Dial()
	ts.Defer(func() { conn.Close() })
	_, err := conn.Send(frame.Probe()) // to see that the TPM serves this connection
	ts.Check(err)
	*held = conn
}

// cmdReads is "reads FIFO": it waits until a command in the background reads this pipe. The
// test program then keeps the pipe open, so that it does not end.
func cmdReads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reads FIFO")
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		pipe, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) { // no reader yet
			continue
		}
		ts.Check(err)
		ts.Defer(func() { pipe.Close() })
		return
	}
	ts.Fatalf("nobody reads %s", args[0])
}

var signals = map[string]os.Signal{
	"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
}

// cmdSignal is "signal NAME": it sends a signal to all commands in the background.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal INT|TERM|HUP|QUIT|KILL")
	}
	for _, command := range ts.BackgroundCmds() {
		ts.Check(command.Process.Signal(signals[args[0]]))
	}
}

// cmdLoaded is "loaded KEYS SESSIONS": it checks how many keys and sessions are in the TPM
// or saved, of any program.
func cmdLoaded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: loaded KEYS SESSIONS")
	}
	if keys, sessions := countLoaded(ts); strconv.Itoa(keys) != args[0] || strconv.Itoa(sessions) != args[1] {
		ts.Fatalf("%d keys and %d sessions are in the TPM, want %v", keys, sessions, args)
	}
}

// cmdNoLeaks is "noleaks": it checks that no key and no session is left in the TPM.
func cmdNoLeaks(ts *testscript.TestScript, neg bool, args []string) {
	if keys, sessions := countLoaded(ts); neg || len(args) != 0 || keys+sessions > 0 {
		ts.Fatalf("%d keys and %d sessions were left in the TPM", keys, sessions)
	}
}

// countLoaded asks the TPM for the number of loaded keys, and of loaded and saved sessions.
func countLoaded(ts *testscript.TestScript) (keys, sessions int) {
	tpm, list := swtpmOf(ts).Dial(), Handles12
	defer tpm.Close()
	kinds := []uint32{resourceKey, resourceAuth, resourceContext}
	if swtpmOf(ts).Is20() {
		list, kinds = Handles20, []uint32{transients, loadedSessions, savedSessions}
	}
	var counts [3]int
	for i, kind := range kinds {
		found, err := list(tpm, kind)
		ts.Check(err)
		counts[i] = len(found)
	}
	return counts[0], counts[1] + counts[2]
}

// cmdTries is "tries N": it checks that the TPM has counted N wrong secrets.
func cmdTries(ts *testscript.TestScript, neg bool, args []string) {
	tpm := swtpmOf(ts).Dial()
	defer tpm.Close()
	count := tries12
	if swtpmOf(ts).Is20() {
		count = tries20
	}
	n, err := count(tpm)
	ts.Check(err)
	if got := strconv.Itoa(n); neg || len(args) != 1 || got != args[0] {
		ts.Fatalf("the TPM has counted %s tries, want %v", got, args)
	}
}
