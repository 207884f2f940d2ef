package main

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxConns is how many connections may be open, even where the system allows more. It
// bounds memory: a connection with HTTP/2 takes about 45 KB.
const maxConns = 1024

// connLimit is how many connections a process may have open that may open so many
// descriptors. The rest is for the TPM, files and the log.
func connLimit(descriptors int) int {
	return min(maxConns, descriptors-min(64, descriptors/2))
}

// A connState is what a connection does.
type connState int

const (
	handshaking connState = iota // waits for the ClientHello
	signing                      // waits for the TPM, then for the end of the handshake
	answering                    // requests
	idle                         // waits for a request
)

// grace is how long a connection keeps its place after it came into a state, even if all
// places are taken. That bounds how long a new client waits if all connections are stuck.
// A ClientHello comes together with the last packet of the TCP handshake.
var grace = [...]time.Duration{
	handshaking: 200 * time.Millisecond,
	signing:     time.Second,
	answering:   500 * time.Millisecond,
	idle:        200 * time.Millisecond,
}

// A connLimiter limits how many connections are open, in all and for each client. It
// turns no connection away: the one that has been idle for longest is closed instead.
type connLimiter struct {
	limit     int           // of all clients together
	perClient int           // a quarter of limit
	idleLimit time.Duration // after which an idle connection is closed

	mu      sync.Mutex
	open    *list.List                // of *conn, the longest without a change of state first
	clients map[netip.Addr]*list.List // the same, for each client
}

func newConnLimiter(limit int, idleLimit time.Duration) *connLimiter {
	return &connLimiter{
		limit: limit, perClient: max(1, limit/4), idleLimit: idleLimit,
		open: list.New(), clients: make(map[netip.Addr]*list.List),
	}
}

// add gives c a place. If another connection must lose its place for that, add returns
// it for the caller to close. It returns false if there is no place yet: all are taken,
// and all connections are within their grace.
//
// A client that has its share of the places already loses one of its own connections,
// even one within its grace, so that one client cannot make others wait.
func (l *connLimiter) add(c *conn) (evicted *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.clients[c.client]
	if own == nil {
		own = list.New()
	}
	switch {
	case own.Len() >= l.perClient:
		if evicted = longestIdle(own); evicted == nil {
			evicted = own.Front().Value.(*conn)
		}
	case l.open.Len() >= l.limit:
		if evicted = longestIdle(l.open); evicted == nil {
			return nil, false
		}
	}
	l.evict(evicted)
	l.clients[c.client] = own // evict may have deleted it
	c.changed = time.Now()
	c.inOpen, c.inOwn = l.open.PushBack(c), own.PushBack(c)
	return evicted, true
}

// takeIdle takes its place from the connection that has been idle for longest, and
// returns it for the caller to close. It returns nil if all are within their grace.
func (l *connLimiter) takeIdle() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := longestIdle(l.open)
	l.evict(c)
	return c
}

// longestIdle returns the first connection of a list whose grace is over.
func longestIdle(conns *list.List) *conn {
	now := time.Now()
	for e := conns.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		if now.Sub(c.changed) >= grace[c.state] {
			return c
		}
	}
	return nil
}

// evict runs under mu; c may be nil.
func (l *connLimiter) evict(c *conn) {
	if c != nil {
		c.evicted.Store(true)
		l.unlink(c)
	}
}

// remove gives up the place of a connection that is closed. It may be called again.
func (l *connLimiter) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(c)
}

// unlink is remove under mu.
func (l *connLimiter) unlink(c *conn) {
	if c.inOpen == nil {
		return
	}
	c.stopIdleTimer()
	own := l.clients[c.client]
	l.open.Remove(c.inOpen)
	own.Remove(c.inOwn)
	c.inOpen, c.inOwn = nil, nil
	if own.Len() == 0 {
		delete(l.clients, c.client)
	}
}

// setState records what a connection does from now on.
func (l *connLimiter) setState(c *conn, state connState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.inOpen == nil {
		return
	}
	c.state, c.changed = state, time.Now()
	c.engaged = c.engaged || state == answering
	c.stopIdleTimer()
	if state == idle {
		c.idleTimer = time.AfterFunc(l.idleLimit, func() { c.Close() })
	}
	l.open.MoveToBack(c.inOpen)
	l.clients[c.client].MoveToBack(c.inOwn)
}

// notEngaged returns the connections without any request yet.
func (l *connLimiter) notEngaged() (conns []*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.open.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); !c.engaged {
			conns = append(conns, c)
		}
	}
	return conns
}

// count is how many connections are open.
func (l *connLimiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open.Len()
}

// clientAddr is what counts as one client: an IPv4 address, or the /64 network of an
// IPv6 address, because one machine can use all addresses of its network.
func clientAddr(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	return ip
}
