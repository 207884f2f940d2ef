package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// A tlsListener is the listener of the HTTP server: it gives out TLS connections
// whose handshake is done. net/http would do the handshakes, too, but tells of
// their failures only in the words of its log.
//
// It takes every client in at once. Where the room is full, another connection
// is closed for it: clients that wait in the queue of the operating system could
// not be told apart.
type tlsListener struct {
	listener net.Listener
	config   *tls.Config
	limit    time.Duration // for a handshake
	stats    *stats
	journal  *journal
	room     *room

	ready chan *tls.Conn
	ctx   context.Context // of all handshakes, until Close
	shut  context.CancelFunc
	once  sync.Once

	handshakes sync.WaitGroup
}

func newTLSListener(listener net.Listener, s *server) *tlsListener {
	ctx, shut := context.WithCancel(context.Background())
	return &tlsListener{
		listener: listener,
		config:   s.config,
		limit:    s.limits.handshake,
		stats:    s.stats,
		journal:  s.journal,
		room:     s.room,
		ready:    make(chan *tls.Conn),
		ctx:      ctx,
		shut:     shut,
	}
}

// Accept returns the next *tls.Conn, after its handshake; open must run.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l *tlsListener) Addr() net.Addr { return l.listener.Addr() }

// Close ends open, and the connections that no request came on. A signature
// that the TPM is making then is still waited for: see wait.
func (l *tlsListener) Close() (err error) {
	l.once.Do(func() {
		l.shut()
		err = l.listener.Close()
		for _, c := range l.room.close() {
			c.Close()
		}
	})
	return err
}

// wait returns when no handshake runs any more, after Close.
func (l *tlsListener) wait() { l.handshakes.Wait() }

// open begins to take clients in.
func (l *tlsListener) open() {
	l.handshakes.Add(1) // until nobody adds another
	go func() {
		defer l.handshakes.Done()
		l.takeIn()
	}()
}

// takeIn takes clients in until Close. Running out of descriptors or memory is
// no reason to end: connections that go free them.
func (l *tlsListener) takeIn() {
	for pause := time.Duration(0); ; {
		raw, err := l.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			l.admit(raw)
			continue
		case l.closing():
			return
		case pause == 0:
			l.journal.trouble("cannot take a connection in: %v", err)
		}
		if c := l.room.spare(); c != nil {
			l.push(c)
		}
		pause = min(max(2*pause, time.Millisecond), 100*time.Millisecond)
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
			return
		}
	}
}

// admit begins with a client, if need be in the place of another.
func (l *tlsListener) admit(raw net.Conn) {
	c := newConn(raw, l.room)
	gone, ok := l.room.enter(c)
	if gone != nil {
		l.push(gone)
	}
	if !ok {
		c.Close()
		l.tellPushed()
		return
	}
	l.handshakes.Add(1)
	go l.begin(c)
}

// push closes a connection that has to make room.
func (l *tlsListener) push(c *conn) {
	c.Close()
	l.tellPushed()
}

func (l *tlsListener) tellPushed() {
	if l.closing() {
		return
	}
	l.stats.count(func(t *tally) { t.pushed++ })
	l.journal.connectionPushed()
}

// begin waits until the client has spoken, which some never do: it takes no
// memory for TLS before.
func (l *tlsListener) begin(c *conn) {
	defer l.handshakes.Done()
	defer l.survive(c)
	deadline := time.Now().Add(l.limit)
	c.SetDeadline(deadline)
	if err := c.readHello(); err != nil {
		l.failed(c, err)
		return
	}
	l.room.heard(c)
	l.handshake(c, deadline)
}

// survive keeps a mistake in one handshake from ending the program, which would leave
// the key in the TPM: what net/http does for requests.
func (l *tlsListener) survive(c *conn) {
	if mistake := recover(); mistake != nil {
		c.Close()
		l.journal.trouble("%s panic in the handshake: %s", c.RemoteAddr(), printable(fmt.Sprintf("%v: %s", mistake, debug.Stack()), 2000))
	}
}

func (l *tlsListener) handshake(c *conn, deadline time.Time) {
	ctx, cancel := context.WithDeadline(l.ctx, deadline)
	defer cancel()
	secure := tls.Server(c, l.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		l.failed(c, err)
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
	case <-l.ctx.Done():
		c.Close()
	}
}

func (l *tlsListener) closing() bool { return l.ctx.Err() != nil }

// failed closes a connection whose handshake came to nothing, and counts and
// tells of it.
func (l *tlsListener) failed(c *conn, err error) {
	defer c.Close()
	if l.closing() || l.room.wasPushed(c) {
		return
	}
	switch {
	case gaveUp(c.signErr) && !l.stalled(c):
		l.stats.count(func(t *tally) { t.gaveUp++ })
		l.journal.clientGaveUp(c.signErr)
	case c.signErr != nil:
		l.stats.count(func(t *tally) { t.unsigned++ })
		l.journal.keyFailed(c.signErr)
	default:
		l.stats.count(func(t *tally) { t.failed++ })
		l.journal.keyWorks(c)
		l.journal.trouble("%s TLS handshake failed: %s", c.RemoteAddr(), handshakeFailure(err, l.limit))
		answerHTTP(c, err)
	}
}

// stalled reports whether the client waited for long, and the key did not sign
// for anybody meanwhile: then it is not too many clients that it waited for.
func (l *tlsListener) stalled(c *conn) bool {
	return errors.Is(c.signErr, context.DeadlineExceeded) && c.waited > l.limit/2 && !l.stats.signedWithin(c.waited)
}

// answerHTTP helps those who typed http:// for https://, the commonest mistake.
func answerHTTP(c *conn, err error) {
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record) {
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS server: write https:// in front of the address.\n")
	}
}
