package scripttest

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// wordHold is "hold": from then on this program has the TPM, as one that does not
// share it, until "hold end".
func wordHold(ts *testscript.TestScript, neg bool, args []string) {
	held := ts.Value(keyHold).(*net.Conn)
	switch {
	case neg, len(args) > 1, len(args) == 1 && args[0] != "end":
		ts.Fatalf("usage: hold [end]")
	case len(args) == 1:
		ts.Check((*held).Close())
		return
	}
	conn, err := net.Dial("unix", ts.Getenv("SOCKET"))
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	// TPM_GetCapability, to see that the TPM serves this connection; a TPM 2.0 refuses it.
	_, err = conn.Write([]byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 6, 0, 0, 0, 0})
	ts.Check(err)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, 10))
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
	dev, err := transport.Open("unix:"+ts.Getenv("SOCKET"), time.Minute)
	ts.Check(err)
	defer dev.Close()
	if swtpmOf(ts).Is20() {
		objects, err := tpmtest.Handles20(dev, 0x80000000)
		ts.Check(err)
		loaded, err := tpmtest.Handles20(dev, 0x02000000)
		ts.Check(err)
		saved, err := tpmtest.Handles20(dev, 0x03000000)
		ts.Check(err)
		return len(objects), len(loaded) + len(saved)
	}
	conn := tpm12.New(dev)
	loaded, err := conn.LoadedKeys()
	ts.Check(err)
	open, err := conn.Sessions()
	ts.Check(err)
	saved, err := conn.SavedSessions()
	ts.Check(err)
	return len(loaded), len(open) + len(saved)
}
