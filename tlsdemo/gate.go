package main

import (
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// A gate is the listener of the HTTP server: it gives out TLS connections whose
// handshake is done. net/http would do the handshakes, too, but tells of their
// failures only in the words of its log.
//
// It holds as many connections as it has slots. Further clients wait in the
// queue of the operating system until one has gone: handshakes are bounded by
// limits.handshake, what follows by the HTTP server.
type gate struct {
	listener net.Listener
	config   *tls.Config
	limit    time.Duration // for a handshake
	stats    *stats
	journal  *journal

	ready chan *tls.Conn
	slots chan struct{} // one token for each connection
	shut  chan struct{} // closed by Close
	once  sync.Once

	handshakes sync.WaitGroup

	mu   sync.Mutex
	idle map[*conn]struct{} // those without a request yet
}

func newGate(listener net.Listener, s *server) *gate {
	return &gate{
		listener: listener,
		config:   s.config,
		limit:    s.limits.handshake,
		stats:    s.stats,
		journal:  s.journal,
		ready:    make(chan *tls.Conn),
		slots:    make(chan struct{}, s.limits.conns),
		shut:     make(chan struct{}),
		idle:     make(map[*conn]struct{}),
	}
}

// Accept returns the next *tls.Conn, after its handshake; open must run.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.shut:
		return nil, net.ErrClosed
	}
}

func (g *gate) Addr() net.Addr { return g.listener.Addr() }

// Close ends open, and the connections that no request came on. What still
// waits for the TPM then goes on until that answers: see wait.
func (g *gate) Close() (err error) {
	g.once.Do(func() {
		close(g.shut)
		err = g.listener.Close()
		g.mu.Lock()
		idle := slices.Collect(maps.Keys(g.idle))
		g.mu.Unlock()
		for _, c := range idle {
			c.Close()
		}
	})
	return err
}

// wait returns when no handshake runs any more, after Close.
func (g *gate) wait() { g.handshakes.Wait() }

// open takes clients in until Close. Running out of descriptors or memory is no
// reason to end: connections that go free them.
func (g *gate) open() {
	for pause := time.Duration(0); ; {
		select {
		case g.slots <- struct{}{}:
		case <-g.shut:
			return
		}
		raw, err := g.listener.Accept()
		if err == nil {
			pause = 0
			if c := g.admit(raw); c != nil {
				go g.handshake(c)
			}
			continue
		}
		<-g.slots
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if pause == 0 {
			g.journal.trouble("cannot take a connection in: %v", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-g.shut:
			return
		}
	}
}

// admit gives a connection its slot, until it is closed. It returns nil where
// the gate was closed meanwhile.
func (g *gate) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw}
	c.leave = func() {
		g.engaged(c)
		<-g.slots
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing() {
		raw.Close()
		return nil
	}
	g.idle[c] = struct{}{}
	g.handshakes.Add(1)
	return c
}

// engaged takes note that a request has come, or that the connection has gone.
func (g *gate) engaged(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.idle, c)
}

func (g *gate) handshake(c *conn) {
	defer g.handshakes.Done()
	secure := tls.Server(c, g.config)
	c.SetDeadline(time.Now().Add(g.limit))
	err := secure.Handshake()
	if g.closing() {
		c.Close()
		return
	}
	if err != nil {
		g.failed(c, err)
		c.Close()
		return
	}
	g.journal.keyWorks(c)
	resumed := secure.ConnectionState().DidResume
	g.stats.count(func(t *tally) {
		if resumed {
			t.resumed++
		} else {
			t.signed++
		}
	})
	c.SetDeadline(time.Time{})
	select {
	case g.ready <- secure:
	case <-g.shut:
		c.Close()
	}
}

func (g *gate) closing() bool {
	select {
	case <-g.shut:
		return true
	default:
		return false
	}
}

// failed counts and tells of a handshake that came to nothing.
func (g *gate) failed(c *conn, err error) {
	if c.signErr != nil {
		g.stats.count(func(t *tally) { t.unsigned++ })
		g.journal.keyFailed(c.signErr)
		return
	}
	g.journal.keyWorks(c)
	g.stats.count(func(t *tally) { t.failed++ })
	g.journal.trouble("%s TLS handshake failed: %s", c.RemoteAddr(), handshakeFailure(err, g.limit))
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record) {
		// The commonest mistake: http:// typed for https://.
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS server: write https:// in front of the address.\n")
	}
}
