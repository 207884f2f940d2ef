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

// A tlsListener is the listener of the HTTP server: it gives out TLS connections
// whose handshake is done. net/http would do the handshakes, too, but tells of
// their failures only in the words of its log.
//
// It holds as many connections as it has slots. Further clients wait in the
// queue of the operating system until one has gone: handshakes are bounded by
// limits.handshake, what follows by the HTTP server.
type tlsListener struct {
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

func newTLSListener(listener net.Listener, s *server) *tlsListener {
	return &tlsListener{
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
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.shut:
		return nil, net.ErrClosed
	}
}

func (l *tlsListener) Addr() net.Addr { return l.listener.Addr() }

// Close ends open, and the connections that no request came on. What still
// waits for the TPM then goes on until that answers: see wait.
func (l *tlsListener) Close() (err error) {
	l.once.Do(func() {
		close(l.shut)
		err = l.listener.Close()
		l.mu.Lock()
		idle := slices.Collect(maps.Keys(l.idle))
		l.mu.Unlock()
		for _, c := range idle {
			c.Close()
		}
	})
	return err
}

// wait returns when no handshake runs any more, after Close.
func (l *tlsListener) wait() { l.handshakes.Wait() }

// open takes clients in until Close. Running out of descriptors or memory is no
// reason to end: connections that go free them.
func (l *tlsListener) open() {
	for pause := time.Duration(0); ; {
		select {
		case l.slots <- struct{}{}:
		case <-l.shut:
			return
		}
		raw, err := l.listener.Accept()
		if err == nil {
			pause = 0
			if c := l.admit(raw); c != nil {
				go l.handshake(c)
			}
			continue
		}
		<-l.slots
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if pause == 0 {
			l.journal.trouble("cannot take a connection in: %v", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-l.shut:
			return
		}
	}
}

// admit gives a connection its slot, until it is closed. It returns nil where
// it was closed meanwhile.
func (l *tlsListener) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw}
	c.leave = func() {
		l.engaged(c)
		<-l.slots
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing() {
		raw.Close()
		return nil
	}
	l.idle[c] = struct{}{}
	l.handshakes.Add(1)
	return c
}

// engaged takes note that a request has come, or that the connection has gone.
func (l *tlsListener) engaged(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.idle, c)
}

func (l *tlsListener) handshake(c *conn) {
	defer l.handshakes.Done()
	secure := tls.Server(c, l.config)
	c.SetDeadline(time.Now().Add(l.limit))
	err := secure.Handshake()
	if l.closing() {
		c.Close()
		return
	}
	if err != nil {
		l.failed(c, err)
		c.Close()
		return
	}
	l.journal.keyWorks(c)
	resumed := secure.ConnectionState().DidResume
	l.stats.count(func(t *tally) {
		if resumed {
			t.resumed++
		} else {
			t.signed++
		}
	})
	c.SetDeadline(time.Time{})
	select {
	case l.ready <- secure:
	case <-l.shut:
		c.Close()
	}
}

func (l *tlsListener) closing() bool {
	select {
	case <-l.shut:
		return true
	default:
		return false
	}
}

// failed counts and tells of a handshake that came to nothing.
func (l *tlsListener) failed(c *conn, err error) {
	if c.signErr != nil {
		l.stats.count(func(t *tally) { t.unsigned++ })
		l.journal.keyFailed(c.signErr)
		return
	}
	l.journal.keyWorks(c)
	l.stats.count(func(t *tally) { t.failed++ })
	l.journal.trouble("%s TLS handshake failed: %s", c.RemoteAddr(), handshakeFailure(err, l.limit))
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record) {
		// The commonest mistake: http:// typed for https://.
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS server: write https:// in front of the address.\n")
	}
}
