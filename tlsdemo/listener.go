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

	"maclef/tpmkey"
)

// A tlsListener is the listener of the HTTP server. It limits how many connections are
// open, and makes their TLS handshakes: net/http would make them, too, but reports
// failures as text only.
type tlsListener struct {
	*server
	tcp   net.Listener
	ready chan *tls.Conn // after the handshake

	ctx    context.Context // of all handshakes, until Close
	cancel context.CancelFunc
	once   sync.Once

	goroutines sync.WaitGroup
}

// newTLSListener begins to accept connections.
func newTLSListener(tcp net.Listener, s *server) *tlsListener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &tlsListener{server: s, tcp: tcp, ready: make(chan *tls.Conn), ctx: ctx, cancel: cancel}
	l.goroutines.Add(1)
	go func() {
		defer l.goroutines.Done()
		l.acceptAll()
	}()
	return l
}

// Accept returns the next *tls.Conn, after its handshake.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l *tlsListener) Addr() net.Addr { return l.tcp.Addr() }

// Close ends all handshakes, and closes the connections without any request yet, which
// http.Server.Shutdown would wait for. It does not wait for a signature that the TPM is
// making: wait does.
func (l *tlsListener) Close() (err error) {
	l.once.Do(func() {
		l.cancel()
		err = l.tcp.Close()
		for _, c := range l.limiter.notEngaged() {
			c.Close()
		}
	})
	return err
}

// wait returns when no handshake runs any more, after Close.
func (l *tlsListener) wait() { l.goroutines.Wait() }

// acceptAll accepts connections until Close. If descriptors or memory run out, it closes
// an idle connection and tries again.
func (l *tlsListener) acceptAll() {
	for pause := time.Duration(0); ; {
		raw, err := l.tcp.Accept()
		switch {
		case err == nil:
			pause = 0
			l.accepted(newConn(raw, l.limiter))
			continue
		case l.closing():
			return
		case pause == 0:
			l.log.limitedf("cannot take a connection in: %v", err)
		}
		l.closeEvicted(l.limiter.takeIdle())
		pause = min(max(2*pause, time.Millisecond), 100*time.Millisecond)
		l.sleep(pause)
	}
}

// accepted begins the handshake of a connection when it has a place. Until then it
// accepts no other.
func (l *tlsListener) accepted(c *conn) {
	for {
		evicted, ok := l.limiter.add(c)
		l.closeEvicted(evicted)
		if ok {
			break
		}
		if l.closing() {
			c.Close()
			return
		}
		l.sleep(5 * time.Millisecond)
	}
	l.goroutines.Add(1)
	go l.handshake(c)
}

// sleep returns early when the listener closes.
func (l *tlsListener) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.ctx.Done():
	}
}

// closeEvicted closes a connection that had to make room; c may be nil.
func (l *tlsListener) closeEvicted(c *conn) {
	if c == nil {
		return
	}
	c.Close()
	if !l.closing() {
		l.stats.count(func(t *tally) { t.evicted++ })
		l.log.connEvicted()
	}
}

// handshake makes the handshake of a connection, and hands it to Accept.
func (l *tlsListener) handshake(c *conn) {
	defer l.goroutines.Done()
	defer l.recoverPanic(c)
	ctx, cancel := context.WithTimeout(l.ctx, l.limits.handshake)
	defer cancel()
	id, done := l.beginHandshake()
	defer done()
	c.identity = id
	secure := tls.Server(c, id.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		l.failed(c, err)
		return
	}
	l.log.keyWorks(c)
	resumed := secure.ConnectionState().DidResume
	l.stats.count(func(t *tally) {
		if resumed {
			t.resumed++
		} else {
			t.signed++
		}
	})
	l.limiter.setState(c, idle)
	select {
	case l.ready <- secure:
	case <-l.ctx.Done():
		c.Close()
	}
}

// recoverPanic keeps a panic in one handshake from ending the program, as net/http does
// for requests. The program must end in order, because a key may be loaded in the TPM.
func (l *tlsListener) recoverPanic(c *conn) {
	if v := recover(); v != nil {
		c.Close()
		l.log.limitedf("%s panic in the handshake: %s", c.RemoteAddr(), shortText(fmt.Sprintf("%v: %s", v, debug.Stack()), 2000))
	}
}

func (l *tlsListener) closing() bool { return l.ctx.Err() != nil }

// failed counts and logs a failed handshake, and closes its connection.
func (l *tlsListener) failed(c *conn, err error) {
	defer c.Close()
	if l.closing() || c.evicted.Load() {
		return
	}
	switch {
	case gaveUp(c.signErr) && !l.stalled(c):
		l.stats.count(func(t *tally) { t.gaveUp++ })
		l.log.clientGaveUp(c.signErr)
	case c.signErr != nil && !errors.Is(c.signErr, tpmkey.ErrNotSupported):
		l.stats.count(func(t *tally) { t.unsigned++ })
		l.log.keyFailed(c.signErr)
	default: // also if a client of TLS 1.2 has a random number that a restricted key must not sign
		l.stats.count(func(t *tally) { t.failed++ })
		l.log.keyWorks(c)
		l.log.limitedf("%s TLS handshake failed: %s", c.RemoteAddr(), handshakeFailure(c, err, l.limits.handshake))
		answerHTTP(c, err)
	}
}

// stalled reports whether the TPM has stopped signing: the client waited for long, and
// nothing was signed for anybody in that time. Otherwise there are too many clients.
func (l *tlsListener) stalled(c *conn) bool {
	return errors.Is(c.signErr, context.DeadlineExceeded) && c.waited > l.limits.handshake/2 && !l.stats.signedWithin(c.waited)
}

// answerHTTP helps those who typed http:// for https://, the commonest mistake.
func answerHTTP(c *conn, err error) {
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record) {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis is an HTTPS server: write https:// in front of the address.\n")
	}
}
