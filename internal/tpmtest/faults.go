package tpmtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/relay"
)

// A Proxy stands between programs and a software TPM, of whichever generation, counts
// commands, and does one [Fault] to one of them. Before and after that it changes nothing. Like
// swtpm it serves one connection after the other, and reads a stream of bytes,
// however they were sent.
type Proxy struct {
	// Name is the name to open it by: "unix:PATH".
	Name string

	sw       *SWTPM
	path     string
	listener net.Listener

	upstream sync.Mutex          // guards conn
	conn     transport.TPMCloser // to the software TPM, which serves nobody else

	mu     sync.Mutex // guards what follows
	client net.Conn   // who is served
	log    []Exchange
	armed  bool
	index  int // of the command that the fault happens to
	fault  Fault
	left   int // how many further commands it happens to
}

// StartProxy starts a proxy before a software TPM, which nobody may connect to
// besides. It ends with the test.
func StartProxy(t testing.TB, sw *SWTPM) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Proxy{sw: sw, path: filepath.Join(dir, "sock")}
	p.Name = "unix:" + p.path
	if p.listener, err = net.Listen("unix", p.path); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		p.serve()
	}()
	t.Cleanup(func() {
		p.listener.Close()
		p.HangUp()
		<-served
		p.redial()
	})
	return p
}

// Arm forgets what was counted, and has f happen to the command with this index,
// counted from 0.
func (p *Proxy) Arm(index int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.armed, p.index, p.fault, p.left = nil, true, index, f, f.Repeat
}

// Disarm lets everything pass from now on. It reports whether the fault is past:
// it has happened, as often as it was to.
func (p *Proxy) Disarm() (past bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past = !p.armed
	p.armed = false
	return past
}

// Count returns how many commands have come since Arm.
func (p *Proxy) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log)
}

// Exchanges returns the commands since Arm, with the answers that they were
// given; a command of which only the beginning came has an ordinal of 0.
func (p *Proxy) Exchanges() []Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Exchange(nil), p.log...)
}

// HangUp cuts the connection that is being served, if any.
func (p *Proxy) HangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.Close()
	}
}

// Settle returns when all earlier connections have ended, and what they sent has
// been carried out. It fails where one of them stays.
func (p *Proxy) Settle(limit time.Duration) error {
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write(getVersion); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 64)); err != nil {
		return fmt.Errorf("another connection has not ended in %v: %w", limit, err)
	}
	return nil
}

// Send sends a command to the TPM past the faults and the count, between two
// commands of others: a go-tpm transport.TPM.
func (p *Proxy) Send(cmd []byte) ([]byte, error) {
	p.upstream.Lock()
	defer p.upstream.Unlock()
	for range 2 {
		if p.conn == nil {
			conn, err := net.Dial("unix", p.sw.path())
			if err != nil {
				return nil, err
			}
			p.conn = wire{conn}
		}
		if rsp, err := p.conn.Send(cmd); err == nil {
			return rsp, nil
		}
		p.conn.Close()
		p.conn = nil
	}
	return nil, errors.New("the software TPM does not answer")
}

// redial forgets the connection to the TPM: it was restarted.
func (p *Proxy) redial() {
	p.upstream.Lock()
	defer p.upstream.Unlock()
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

func (p *Proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.setClient(conn)
		for p.pass(conn) {
		}
		p.setClient(nil)
		conn.Close()
	}
}

func (p *Proxy) setClient(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = conn
}

// pass serves one command. It reports whether the connection goes on.
func (p *Proxy) pass(conn net.Conn) bool {
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return false
	}
	conn.SetReadDeadline(time.Time{}) // set by a silence
	f, due := p.due()
	if due && f.Early {
		p.note(Exchange{})
		return false
	}
	cmd, err := relay.ReadMessage(io.MultiReader(bytes.NewReader(first), conn))
	if err != nil {
		return false
	}
	if !due || f.cured(cmd) {
		rsp, err := p.Send(cmd)
		p.note(Exchange{Ordinal: relay.Code(cmd), Command: cmd, Response: rsp, Err: err})
		_, wrong := conn.Write(rsp)
		return err == nil && wrong == nil
	}
	return p.do(conn, f, cmd)
}

// due returns the fault if it happens to the next command.
func (p *Proxy) due() (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || len(p.log) < p.index {
		return Fault{}, false
	}
	return p.fault, true
}

// note counts a command. The fault is over when it has happened often enough.
func (p *Proxy) note(e Exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed && len(p.log) >= p.index {
		p.left--
		p.armed = p.left >= 0 && !p.fault.cured(e.Command)
	}
	p.log = append(p.log, e)
}
