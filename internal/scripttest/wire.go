package scripttest

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A wire stands between commands and their TPM, and fails when a certain TPM
// command comes.
type wire struct {
	target  string // socket of the TPM
	ordinal uint32 // that of the command
	hangUp  bool   // else it holds the command back

	once     sync.Once
	arrived  chan struct{} // closed when the command has come
	released chan struct{} // closed when it may go on
}

// Ordinals of TPM 1.2. TPM Main Part 2, section 17.
var ordinals = map[string]uint32{
	"TakeOwnership": 0x0d, "UnBind": 0x1e, "CreateWrapKey": 0x1f, "Sign": 0x3c, "LoadKey2": 0x41, "GetRandom": 0x46,
	"OwnerClear": 0x5b, "ForceClear": 0x5d, "PhysicalDisable": 0x70,
}

// wordWire is "wire hangup COMMAND" and "wire stall COMMAND": from then on
// $TPMKEY_TPM leads through a wire that hangs up, or stalls, at this TPM command.
// "wire await" waits until it has come, "wire release" lets it go on.
func wordWire(ts *testscript.TestScript, neg bool, args []string) {
	current := ts.Value(keyWire).(**wire)
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
	case len(args) == 2 && ordinals[args[1]] != 0 && (args[0] == "hangup" || args[0] == "stall"):
		*current = newWire(ts, args[0] == "hangup", ordinals[args[1]])
	default:
		ts.Fatalf("usage: wire hangup|stall COMMAND, wire await, wire release")
	}
}

func newWire(ts *testscript.TestScript, hangUp bool, ordinal uint32) *wire {
	w := &wire{
		target: ts.Getenv("SOCKET"), ordinal: ordinal, hangUp: hangUp,
		arrived: make(chan struct{}), released: make(chan struct{}),
	}
	path := filepath.Join(filepath.Dir(w.target), "wire")
	os.Remove(path) // the one before keeps its clients
	listener, err := net.Listen("unix", path)
	ts.Check(err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	ts.Defer(func() { listener.Close() })
	go w.serve(listener)
	ts.Setenv("TPMKEY_TPM", "unix:"+path)
	return w
}

func (w *wire) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go w.pass(client)
	}
}

// pass carries commands and responses of one client.
func (w *wire) pass(client net.Conn) {
	defer client.Close()
	tpm, err := net.Dial("unix", w.target)
	if err != nil {
		return
	}
	defer tpm.Close()
	for {
		cmd, err := readMessage(client)
		if err != nil {
			return
		}
		if binary.BigEndian.Uint32(cmd[6:]) == w.ordinal {
			w.once.Do(func() { close(w.arrived) })
			if w.hangUp || !w.hold(client) {
				return
			}
		}
		if _, err := tpm.Write(cmd); err != nil {
			return
		}
		rsp, err := readMessage(tpm)
		if err != nil {
			return
		}
		if _, err := client.Write(rsp); err != nil {
			return
		}
	}
}

// hold waits for the release, and reports false where the client goes first.
func (w *wire) hold(client net.Conn) bool {
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

// readMessage reads a command or a response: tag, size, ordinal or result, rest.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, max(10, binary.BigEndian.Uint32(head[2:]))-10)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}
