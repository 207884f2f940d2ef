package tpmtest

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A scriptWire is a proxy between commands and their TPM that stops at a certain TPM
// command.
type scriptWire struct {
	command string // name of the TPM command
	hangUp  bool   // cut the connection; otherwise hold the command

	once     sync.Once
	arrived  chan struct{} // closed when the command arrives
	released chan struct{} // closed when the command may go on
}

// cmdWire is "wire hangup COMMAND" and "wire stall COMMAND": it puts a proxy between
// $TPMKEY_TPM and the TPM. The proxy cuts the connection, or stops, at this TPM command,
// which is named as in the specification without "TPM_" or "TPM2_". "wire await" waits
// until the command arrives, "wire release" lets it go on.
func cmdWire(ts *testscript.TestScript, neg bool, args []string) {
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

// hold waits for the release. It returns false if the client closes the connection first.
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
