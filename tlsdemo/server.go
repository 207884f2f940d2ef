package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"maclef/internal/cli"
)

// limits keep slow and hostile clients from taking everything.
type limits struct {
	handshake   time.Duration // from the connection to the end of its TLS handshake
	header      time.Duration // to read a request's header
	read        time.Duration // to read a request
	answer      time.Duration // to answer it, waiting for other answers included
	write       time.Duration // for the client to take the answer
	idle        time.Duration // between requests
	stop        time.Duration // for requests under way when the server stops
	conns       int           // open at a time, handshakes included
	headerBytes int
}

func defaultLimits() limits {
	return limits{
		handshake:   10 * time.Second,
		header:      10 * time.Second,
		read:        15 * time.Second,
		answer:      15 * time.Second,
		write:       2 * time.Second,
		idle:        time.Minute,
		stop:        3 * time.Second,
		conns:       connLimit(descriptors()),
		headerBytes: 16 << 10,
	}
}

// http2Config keeps small what one client can have the server do and remember. A
// browser needs two streams, for the page and its icon, and sends no bodies.
func (l *limits) http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          4,
		MaxReadFrameSize:              16 << 10, // the least, as is the next one
		MaxReceiveBufferPerConnection: 64<<10 - 1,
		MaxReceiveBufferPerStream:     4 << 10,
		WriteByteTimeout:              l.write,
	}
}

// A server serves the pages of an identity.
type server struct {
	limits  limits
	stats   *stats
	log     *logger
	limiter *connLimiter
	making  chan struct{} // has a value for each page that is being made

	mu      sync.Mutex
	current *identity // of new connections
}

// newServer logs to out. It changes id's tls.Config.
func newServer(id *identity, limits limits, out io.Writer) *server {
	s := &server{
		limits: limits, stats: newStats(), log: newLogger(out),
		limiter: newConnLimiter(limits.conns, limits.idle), making: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	s.use(id)
	return s
}

// protocols are those of HTTP, for ALPN.
var protocols = []string{"h2", "http/1.1"}

// use serves new connections with an identity. It changes id's tls.Config, which has ticket
// keys of its own: sessions of other identities cannot be resumed. When no handshake needs
// the key that was in use, use closes it.
func (s *server) use(id *identity) {
	id.config.NextProtos = protocols
	id.config.GetConfigForClient = recordHello
	id.config.GetCertificate = recordSignatures(id.config.GetCertificate, s.stats)
	s.mu.Lock()
	old := s.current
	s.current = id
	s.mu.Unlock()
	if old != nil && old.key != id.key {
		go s.closeKey(old.key)
	}
}

func (s *server) closeKey(key *servedKey) {
	key.handshakes.Wait()
	if err := key.Close(); err != nil {
		s.log.printf("cannot free the key that was in use, it stays in the TPM until the end: %s", shortText(err.Error(), 500))
	}
}

// identity returns the identity of new connections.
func (s *server) identity() *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// beginHandshake returns the identity for a connection. Its key stays open until done.
func (s *server) beginHandshake() (id *identity, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.key.handshakes.Add(1)
	return s.current, s.current.key.handshakes.Done
}

// connKey is the context key of a request's *conn.
type connKey struct{}

// serve answers clients until stop is closed, then ends within limits.stop.
func (s *server) serve(tcp net.Listener, stop <-chan struct{}) error {
	h := s.httpServer()
	l := newTLSListener(tcp, s)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	var err error
	select {
	case err = <-ended:
		l.Close()
	case <-stop:
		s.shutdown(h, l)
	}
	l.wait()
	s.log.end()
	return err
}

func (s *server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.handler(),
		TLSConfig:         &tls.Config{NextProtos: protocols}, // the listener has the rest
		ReadHeaderTimeout: s.limits.header,
		ReadTimeout:       s.limits.read,
		WriteTimeout:      s.limits.answer,
		IdleTimeout:       -1, // the limiter's: net/http keeps what a closed HTTP/2 connection used for as long
		MaxHeaderBytes:    s.limits.headerBytes,
		HTTP2:             s.limits.http2Config(),
		ErrorLog:          log.New(s.log, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateActive:
				s.limiter.setState(connOf(c), answering)
			case http.StateIdle:
				s.limiter.setState(connOf(c), idle)
			}
		},
	}
}

// connOf returns the connection below one that a tlsListener accepted.
func connOf(c net.Conn) *conn { return c.(*tls.Conn).NetConn().(*conn) }

func (s *server) shutdown(h *http.Server, l *tlsListener) {
	t, _, _ := s.stats.snapshot()
	s.log.printf("stopping after %s", cli.Counted(t.signed+t.resumed, "handshake"))
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.stop)
	defer cancel()
	if err := h.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		h.Close()
	}
	l.Close()
}
