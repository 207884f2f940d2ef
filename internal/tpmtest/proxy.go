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

	"maclef/internal/transport/frame"
)

// A Handler answers a command of a client. If it returns an error, the proxy cuts the
// client's connection.
type Handler func(c *ProxyConn, cmd []byte) (rsp []byte, err error)

// ErrHangUp is for a Handler that cuts the connection on purpose.
var ErrHangUp = errors.New("hang up")

// A ProxyConn is the connection of one client, and the transport to the TPM for it.
type ProxyConn struct {
	Client net.Conn
	transport.TPM
}

// A Proxy stands between programs and a software TPM of either generation, on its own Unix
// socket. [Listen] makes one that connects to the TPM for each client and lets a Handler
// answer. [StartProxy] makes one that has one connection for all clients, records commands,
// and applies one [Fault] to one command. It changes nothing before and after that.
type Proxy struct {
	// Name is the name for transport.Open: "unix:PATH".
	Name string

	path, target string
	listener     net.Listener
	handle       Handler
	accepted     chan struct{} // closed when no more clients are accepted
	serving      sync.WaitGroup

	sw       *SWTPM              // nil unless StartProxy made the proxy
	upstream sync.Mutex          // guards conn
	conn     transport.TPMCloser // to the software TPM

	record  // its mutex guards the next fields
	clients map[net.Conn]struct{}
	armed   bool
	index   int // of the command that the fault happens to
	fault   Fault
	left    int // how many further commands it happens to
}

// Listen makes a proxy at path for the TPM whose socket is target. It replaces a proxy at
// path, which keeps its clients. A serial proxy serves one client after the other, as swtpm
// does.
func Listen(path, target string, serial bool, handle Handler) (*Proxy, error) {
	p := &Proxy{target: target, handle: handle}
	return p, p.listen(path, serial)
}

// StartProxy starts a proxy for a software TPM. Nothing else may connect to that TPM. The
// proxy serves one client after the other, and ends with the test.
func StartProxy(t testing.TB, sw *SWTPM) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Proxy{sw: sw, target: sw.path()}
	p.handle = func(_ *ProxyConn, cmd []byte) ([]byte, error) { return p.Send(cmd) }
	if err := p.listen(filepath.Join(dir, "sock"), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		p.HangUp()
		p.Wait()
		p.closeUpstream()
	})
	return p
}

func (p *Proxy) listen(path string, serial bool) error {
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	p.Name, p.path, p.listener = "unix:"+path, path, listener
	p.accepted, p.clients = make(chan struct{}), map[net.Conn]struct{}{}
	go p.accept(serial)
	return nil
}

// Close stops accepting clients.
func (p *Proxy) Close() { p.listener.Close() }

// Wait waits, after Close, until the last client has closed its connection.
func (p *Proxy) Wait() {
	<-p.accepted
	p.serving.Wait()
}

// HangUp cuts the connections that are being served.
func (p *Proxy) HangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range p.clients {
		client.Close()
	}
}

// WaitIdle waits until all earlier connections have ended and their commands have been
// carried out. It returns an error if one of them stays open.
func (p *Proxy) WaitIdle(limit time.Duration) error {
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write(frame.Probe()); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 64)); err != nil {
		return fmt.Errorf("another connection has not ended in %v: %w", limit, err)
	}
	return nil
}

// Send sends a command to the TPM of a StartProxy between two commands of clients, without
// faults and without a record. It implements transport.TPM of go-tpm.
func (p *Proxy) Send(cmd []byte) ([]byte, error) {
	p.upstream.Lock()
	defer p.upstream.Unlock()
	for range 2 {
		if p.conn == nil {
			conn, err := net.Dial("unix", p.target)
			if err != nil {
				return nil, err
			}
			p.conn = rawConn{conn, time.Minute}
		}
		if rsp, err := p.conn.Send(cmd); err == nil {
			return rsp, nil
		}
		p.conn.Close()
		p.conn = nil
	}
	return nil, errors.New("the software TPM does not answer")
}

// closeUpstream closes the connection to the TPM, for a restart.
func (p *Proxy) closeUpstream() {
	p.upstream.Lock()
	defer p.upstream.Unlock()
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

func (p *Proxy) accept(serial bool) {
	defer close(p.accepted)
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Add(1)
		if serial {
			p.serve(client)
		} else {
			go p.serve(client)
		}
	}
}

// serve serves one client.
func (p *Proxy) serve(client net.Conn) {
	defer p.serving.Done()
	defer client.Close()
	p.mu.Lock()
	p.clients[client] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.clients, client)
	}()
	c := &ProxyConn{client, p}
	if p.sw == nil {
		tpm, err := net.Dial("unix", p.target)
		if err != nil {
			return
		}
		defer tpm.Close()
		c.TPM = rawConn{Conn: tpm}
	}
	for p.serveCommand(c) {
	}
}

// serveCommand serves one command. It reports whether the connection stays open.
func (p *Proxy) serveCommand(c *ProxyConn) bool {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c.Client, first); err != nil {
		return false
	}
	c.Client.SetReadDeadline(time.Time{}) // Fault.Silent may have set it
	f, due := p.nextFault()
	if due && f.Early {
		p.addRecord(Exchange{})
		return false
	}
	cmd, err := frame.Read(io.MultiReader(bytes.NewReader(first), c.Client))
	if err != nil {
		return false
	}
	if !due || f.endsOn(cmd) {
		f = Fault{}
	}
	return p.applyFault(c, f, cmd)
}
