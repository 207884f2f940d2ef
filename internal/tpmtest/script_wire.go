package tpmtest

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A scriptWire stands between commands and their TPM, and fails when a certain TPM
// command comes.
type scriptWire struct {
	command string // its name
	hangUp  bool   // else it holds the command back

	once     sync.Once
	arrived  chan struct{} // closed when the command has come
	released chan struct{} // closed when it may go on
}

// wordWire is "wire hangup COMMAND" and "wire stall COMMAND": from then on
// $TPMKEY_TPM leads through a wire that hangs up, or stalls, at this TPM command, which
// is named as in its generation's specification, without "TPM_" or "TPM2_".
// "wire await" waits until it has come, "wire release" lets it go on.
func wordWire(ts *testscript.TestScript, neg bool, args []string) {
	current := ts.Value(keyWire).(**scriptWire)
	switch words := strings.Join(args, " "); {
	case neg:
		ts.Fatalf("unsupported: ! wire")
	case words == "await" && *current != nil:
		select {
		case <-(*current).arrived:
		case <-time.After(20 * time.Second):
			ts.Fatalf("the command never came")
		}
	case words == "release" && *current != nil:
		close((*current).released)
	case len(args) == 2 && KnowsCommand(args[1]) && (args[0] == "hangup" || args[0] == "stall"):
		*current = newWire(ts, args[0] == "hangup", args[1])
	default:
		ts.Fatalf("usage: wire hangup|stall COMMAND, wire await, wire release")
	}
}

func newWire(ts *testscript.TestScript, hangUp bool, command string) *scriptWire {
	w := &scriptWire{command: command, hangUp: hangUp, arrived: make(chan struct{}), released: make(chan struct{})}
	target := ts.Getenv("SOCKET")
	r, err := Listen(filepath.Join(filepath.Dir(target), "wire"), target, false, w.pass)
	ts.Check(err)
	ts.Defer(r.Close)
	ts.Setenv("TPMKEY_TPM", r.Name)
	return w
}

func (w *scriptWire) pass(c *ProxyConn, cmd []byte) ([]byte, error) {
	if IsCommand(cmd, w.command) {
		w.once.Do(func() { close(w.arrived) })
		if w.hangUp || !w.hold(c.Client) {
			return nil, ErrHangUp
		}
	}
	return c.Send(cmd)
}

// hold waits for the release, and reports false where the client goes first.
func (w *scriptWire) hold(client net.Conn) bool {
	gone := make(chan struct{})
	go func() {
		client.Read(make([]byte, 1))
		close(gone)
	}()
	select {
	case <-gone:
		return false
	case <-w.released:
	}
	client.SetReadDeadline(time.Now())
	<-gone
	client.SetReadDeadline(time.Time{})
	return true
}
