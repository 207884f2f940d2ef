package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"maclef/internal/cli"
)

// limits keep slow and hostile clients from taking everything.
type limits struct {
	handshake   time.Duration // from the connection to the end of its TLS handshake
	header      time.Duration // to read a request's header
	read        time.Duration // to read a request
	write       time.Duration // to answer it
	idle        time.Duration // between requests
	stop        time.Duration // for requests under way when the server stops
	conns       int           // open at a time, handshakes included
	headerBytes int
	streams     int // requests at a time of one connection, with HTTP/2
}

// maxConns is how many connections may be open where the system allows it. A
// silent one costs about 4 KB, one that HTTP has been spoken on about 35.
const maxConns = 16384

// connLimit leaves descriptors for the TPM, files and the log.
func connLimit(descriptors int) int {
	return min(maxConns, descriptors-min(64, descriptors/2))
}

func defaultLimits() limits {
	return limits{
		handshake:   10 * time.Second,
		header:      10 * time.Second,
		read:        15 * time.Second,
		write:       15 * time.Second,
		idle:        time.Minute,
		stop:        3 * time.Second,
		conns:       connLimit(descriptors()),
		headerBytes: 16 << 10,
		streams:     16,
	}
}

// A server serves the pages of an identity.
type server struct {
	*identity
	limits  limits
	stats   *stats
	journal *journal
	room    *room
}

// newServer logs to out. It takes id's tls.Config over.
func newServer(id *identity, limits limits, out io.Writer) *server {
	s := &server{identity: id, limits: limits, stats: newStats(), journal: newJournal(out), room: newRoom(limits.conns)}
	s.config.NextProtos = []string{"h2", "http/1.1"}
	s.config.GetCertificate = observed(s.config.GetCertificate, s.stats)
	return s
}

// connKey is the context key of a request's *conn.
type connKey struct{}

// serve answers clients until stop is closed, then ends within limits.stop.
func (s *server) serve(listener net.Listener, stop <-chan struct{}) error {
	l := newTLSListener(listener, s)
	h := &http.Server{
		Handler:           s.handler(),
		TLSConfig:         s.config,
		ReadHeaderTimeout: s.limits.header,
		ReadTimeout:       s.limits.read,
		WriteTimeout:      s.limits.write,
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    s.limits.headerBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.limits.streams},
		ErrorLog:          log.New(s.journal, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, clientOf(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateActive {
				s.room.engaged(clientOf(c))
			}
		},
	}
	l.open()
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
	s.journal.end()
	return err
}

// clientOf is the connection under what a tlsListener gave out.
func clientOf(c net.Conn) *conn { return c.(*tls.Conn).NetConn().(*conn) }

func (s *server) shutdown(h *http.Server, l *tlsListener) {
	t, _, _ := s.stats.snapshot()
	s.journal.line("stopping after %s", cli.Counted(t.signed+t.resumed, "handshake"))
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.stop)
	defer cancel()
	if err := h.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		h.Close()
	}
	l.Close()
}

// watchSignals returns a channel that is closed when the user, or the system,
// wants the program to end. A second signal ends it at once.
func watchSignals() <-chan struct{} {
	incoming := make(chan os.Signal, 1)
	cli.NotifyEnd(incoming)
	signal.Notify(incoming, os.Interrupt) // also where a script's shell had a background job ignore it
	stop := make(chan struct{})
	go func() {
		<-incoming
		signal.Stop(incoming)
		close(stop)
	}()
	return stop
}
