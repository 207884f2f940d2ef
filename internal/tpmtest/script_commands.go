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

// wordHold is "hold": from then on this program has the TPM, as one that does not
// share it, until "hold end".
func wordHold(ts *testscript.TestScript, neg bool, args []string) {
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

// wordReads is "reads FIFO": wait until a command in the background reads this pipe. From
// then on this program has it open, too, so that the pipe has no end yet.
func wordReads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reads FIFO")
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		pipe, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) { // nobody does
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

// wordSignal is "signal NAME": send a signal to all commands in the background.
func wordSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal INT|TERM|HUP|QUIT|KILL")
	}
	for _, command := range ts.BackgroundCmds() {
		ts.Check(command.Process.Signal(signals[args[0]]))
	}
}

// wordLoaded is "loaded KEYS SESSIONS": so many are in the TPM, whoever loaded them, or
// saved them.
func wordLoaded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: loaded KEYS SESSIONS")
	}
	if keys, sessions := inTPM(ts); strconv.Itoa(keys) != args[0] || strconv.Itoa(sessions) != args[1] {
		ts.Fatalf("%d keys and %d sessions are in the TPM, want %v", keys, sessions, args)
	}
}

// wordNoLeaks is "noleaks": nobody left a key or a session in the TPM.
func wordNoLeaks(ts *testscript.TestScript, neg bool, args []string) {
	if keys, sessions := inTPM(ts); neg || len(args) != 0 || keys+sessions > 0 {
		ts.Fatalf("%d keys and %d sessions were left in the TPM", keys, sessions)
	}
}

// inTPM asks the TPM itself what is loaded, and how many sessions are saved.
func inTPM(ts *testscript.TestScript) (keys, sessions int) {
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

// wordTries is "tries N": the TPM has counted N wrong secrets.
func wordTries(ts *testscript.TestScript, neg bool, args []string) {
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
