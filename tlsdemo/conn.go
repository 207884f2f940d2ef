package main

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// maxUnanswered is how many bytes a client may send between two answers. The largest
// request header has 16 KB, and there are no bodies to read.
const maxUnanswered = 64 << 10

var errFlood = errors.New("the client sends too much")

// A conn is the connection of a client, below TLS, and what its handshake cost.
type conn struct {
	net.Conn
	client  netip.Addr
	limiter *connLimiter
	evicted atomic.Bool // closed to make room for another

	unanswered atomic.Int64 // bytes read since the last answer

	// The limiter's.
	inOpen, inOwn *list.Element // nil while it has no place
	state         connState
	engaged       bool        // a request has come
	changed       time.Time   // when state was set
	idleTimer     *time.Timer // may be nil

	// Written during the handshake, only read after it.
	identity  *identity
	suites    []uint16 // that the client offers
	tail      [7]byte  // the last bytes that the client sent
	sample    sample   // zero if nothing was signed
	algorithm string   // IANA's name: "rsa_pkcs1_sha256"
	signErr   error
	waited    time.Duration // until signErr
}

func newConn(raw net.Conn, limiter *connLimiter) *conn {
	return &conn{Conn: raw, client: clientAddr(raw.RemoteAddr()), limiter: limiter}
}

func (c *conn) stopIdleTimer() {
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
}

// NetConn returns the connection below. Package tpmkey asks it whether the client has
// hung up.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read fails if the client sends too much without an answer. So a flood of requests that
// are reset at once, or of other frames of HTTP/2, ends before it takes much time.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.keepTail(b[:n])
	if c.unanswered.Add(int64(n)) > maxUnanswered {
		return n, errFlood
	}
	return n, err
}

func (c *conn) keepTail(b []byte) {
	b = b[max(0, len(b)-len(c.tail)):]
	copy(c.tail[:], c.tail[len(b):])
	copy(c.tail[len(c.tail)-len(b):], b)
}

// Close closes the connection, then gives up its place: never are more connections open
// than there are places.
func (c *conn) Close() error {
	defer c.limiter.remove(c)
	return c.Conn.Close()
}
