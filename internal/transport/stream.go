package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"maclef/internal/transport/frame"
)

// A stream is a connection to a TPM.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	// unread returns how many bytes the peer has not read yet; -1 if the system does not
	// tell.
	unread() int
	// pending returns how many bytes of the peer can be read.
	pending() int
	// peerClosed reports whether the peer is known to have closed the connection.
	peerClosed() bool
}

// exchange sends a command and reads its response. After an error the connection is out of
// step.
func exchange(conn stream, cmd []byte, limit time.Duration) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if n := conn.pending(); n > 0 {
		came := make([]byte, min(n, frame.HeaderSize))
		got, _ := conn.Read(came) // on error the message lacks the bytes
		return came[:got], &notSent{fmt.Errorf("%d bytes came that nobody asked for: %q", n, came[:got])}
	}
	if _, err := conn.Write(cmd); err != nil {
		return nil, &notSent{fmt.Errorf("send command: %w", err)}
	}
	rsp, err := frame.ReadResponse(&bodyReader{conn: conn, limit: min(limit, bodyTimeout)})
	switch n := conn.pending(); {
	case err == nil && n > 0:
		return rsp, fmt.Errorf("%d bytes came after the response", n)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return rsp, fmt.Errorf("it hung up after %d bytes of the response: %w", len(rsp), io.ErrUnexpectedEOF)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rsp, fmt.Errorf("no complete answer within %v: %w", limit, err)
	case err != nil:
		return rsp, fmt.Errorf("read response: %w", err)
	}
	return rsp, nil
}

// bodyTimeout is how long the rest of a response may take after its first bytes. A TPM
// computes before it answers, so the rest comes at once.
const bodyTimeout = 5 * time.Second

// A bodyReader sets a new deadline when the first bytes have come.
type bodyReader struct {
	conn  stream
	limit time.Duration
	begun bool
}

func (h *bodyReader) Read(p []byte) (n int, err error) {
	n, err = h.conn.Read(p)
	if n > 0 && !h.begun {
		h.begun = true
		err = errors.Join(err, h.conn.SetDeadline(time.Now().Add(h.limit)))
	}
	return n, err
}

// dialLimit is how long one attempt to connect may take. A host whose queue is full
// (swtpm's holds two connections) does not answer, and the kernel repeats its request ever
// more rarely, at last every half minute. A new attempt gets in sooner.
const (
	dialLimit      = time.Second
	localDialLimit = 20 * time.Millisecond // on this machine
)

// dialTCP connects to a TPM as soon as its queue has room.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	hosts, port, err := lookUp(ctx, address)
	if err != nil {
		return nil, err
	}
	for {
		for _, host := range hosts {
			limit := dialLimit
			if host == "" || net.ParseIP(host).IsLoopback() {
				limit = localDialLimit
			}
			attempt, cancel := context.WithTimeout(ctx, limit)
			conn, failed := new(net.Dialer).DialContext(attempt, network, net.JoinHostPort(host, port))
			cancel()
			if failed == nil {
				return conn, nil
			}
			if ctx.Err() != nil {
				return nil, ctxError(ctx)
			}
			err = failed
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
}

// lookUp returns the addresses of a host.
func lookUp(ctx context.Context, address string) (hosts []string, port string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if host == "" {
		return []string{""}, port, nil
	}
	hosts, err = net.DefaultResolver.LookupHost(ctx, host)
	return hosts, port, err
}
