package main

import (
	"errors"
	"io"
	"maclef/internal/tpmtest"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// opened adds a connection of a client that has been in its state for so long.
func (l *connLimiter) opened(t *testing.T, client string, state connState, age time.Duration) *conn {
	t.Helper()
	c := &conn{client: netip.MustParseAddr(client), limiter: l}
	if evicted, ok := l.add(c); evicted != nil || !ok {
		t.Fatalf("no place for %s", client)
	}
	l.setState(c, state)
	c.changed = time.Now().Add(-age)
	return c
}

// When descriptors run out, these connections are closed, one after the other.
func TestWhoIsClosed(t *testing.T) {
	type open struct {
		state connState
		age   time.Duration
	}
	for name, row := range map[string]struct {
		open   []open // in the order in which they came into their states
		closed []int  // of open
	}{
		"none":                    {nil, nil},
		"longest idle first":      {[]open{{idle, 7e9}, {idle, 5e9}}, []int{0, 1}},
		"idle for a moment":       {[]open{{idle, 0}}, nil},
		"silent":                  {[]open{{handshaking, 7e9}, {idle, 5e9}}, []int{0, 1}},
		"just accepted":           {[]open{{idle, 7e9}, {handshaking, 0}}, []int{0}},
		"waiting for the TPM":     {[]open{{signing, 5e8}, {idle, 3e8}}, []int{1}},
		"waiting too long":        {[]open{{signing, 5e9}, {idle, 1e9}}, []int{0, 1}},
		"answering":               {[]open{{answering, 4e8}, {idle, 3e8}}, []int{1}},
		"not reading the answer":  {[]open{{answering, 1e9}, {signing, 9e8}, {idle, 3e8}}, []int{0, 2}},
		"all are at work":         {[]open{{answering, 1e8}, {signing, 5e7}, {handshaking, 1e6}}, nil},
		"working, idle, new ones": {[]open{{answering, 4e8}, {signing, 3e8}, {idle, 25e7}, {handshaking, 21e7}, {idle, 1e8}, {handshaking, 1e8}}, []int{2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newConnLimiter(100, time.Hour)
			var all []*conn
			for _, o := range row.open {
				all = append(all, l.opened(t, "192.0.2.1", o.state, o.age))
			}
			var closed []int
			for c := l.takeIdle(); c != nil; c = l.takeIdle() {
				closed = append(closed, slices.Index(all, c))
			}
			if !slices.Equal(closed, row.closed) {
				t.Errorf("closed %v, want %v", closed, row.closed)
			}
			if l.count() != len(all)-len(closed) {
				t.Errorf("%d are left of %d", l.count(), len(all))
			}
		})
	}
}

// A client with a quarter of the places loses one of its own for the next one, the longest
// idle if there is one. Others lose theirs only if all are taken.
func TestAQuarterForOneClient(t *testing.T) {
	l := newConnLimiter(8, time.Hour)
	other := l.opened(t, "192.0.2.1", idle, time.Hour)
	working := l.opened(t, "192.0.2.2", answering, 100*time.Millisecond)
	waiting := l.opened(t, "192.0.2.2", idle, time.Second)
	for _, want := range []*conn{waiting, working} {
		c := &conn{client: working.client, limiter: l}
		if evicted, ok := l.add(c); !ok || evicted != want {
			t.Fatalf("%t, state %d", ok, evicted.state)
		}
		l.setState(c, signing)
	}
	for _, client := range []string{"192.0.2.3", "192.0.2.3", "192.0.2.4", "192.0.2.4", "192.0.2.5"} {
		l.opened(t, client, signing, 0)
	}
	next := &conn{client: netip.MustParseAddr("192.0.2.6"), limiter: l}
	if evicted, ok := l.add(next); !ok || evicted != other {
		t.Errorf("%t, %+v", ok, evicted)
	}
	next = &conn{client: netip.MustParseAddr("192.0.2.7"), limiter: l}
	if evicted, ok := l.add(next); ok || evicted != nil || l.count() != 8 {
		t.Errorf("there is a place: %+v", evicted)
	}
}

func TestClientAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1234":           "192.0.2.7",
		"[::ffff:192.0.2.7]:1234":  "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
		"[fe80::1%lo]:1":           "fe80::",
	} {
		ap := netip.MustParseAddrPort(addr)
		if got := clientAddr(net.TCPAddrFromAddrPort(ap)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if clientAddr(&net.UnixAddr{}).IsValid() {
		t.Error("a Unix socket has an address")
	}
}

func TestConnLimit(t *testing.T) {
	for descriptors, want := range map[int]int{1 << 20: 1024, 1088: 1024, 1024: 960, 256: 192, 100: 50} {
		if got := connLimit(descriptors); got != want {
			t.Errorf("%d descriptors: %d", descriptors, got)
		}
	}
}

// The lists are complete and in order after each of many random events.
func TestLimiterAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	l := newConnLimiter(50, time.Hour)
	clients := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "2001:db8::"}
	var all []*conn // open, the longest without a change first
	drop := func(c *conn) { all = slices.DeleteFunc(all, func(o *conn) bool { return o == c }) }
	full := 0
	for range 20000 {
		if len(all) == 0 || rng.IntN(3) == 0 {
			c := &conn{client: netip.MustParseAddr(clients[rng.IntN(len(clients))]), limiter: l}
			evicted, ok := l.add(c)
			drop(evicted)
			if ok {
				all = append(all, c)
			} else {
				full++
			}
		} else {
			c := all[rng.IntN(len(all))]
			switch state := connState(rng.IntN(8)); state {
			case handshaking, signing, answering, idle:
				l.setState(c, state)
				drop(c)
				all = append(all, c)
			case 4:
				c = l.takeIdle()
				drop(c)
				l.remove(&conn{limiter: l}) // has no place
			case 5:
				l.remove(c)
				l.remove(c)
				l.setState(c, idle) // too late
				drop(c)
			}
		}
		l.check(t, all)
	}
	for _, c := range all {
		l.remove(c)
	}
	if l.check(t, nil); len(l.clients) != 0 || full == 0 {
		t.Errorf("%d clients are left; full %d times", len(l.clients), full)
	}
}

func (l *connLimiter) check(t *testing.T, all []*conn) {
	t.Helper()
	if l.count() != len(all) || len(all) > l.limit {
		t.Fatalf("%d open, counted %d", len(all), l.count())
	}
	own := make(map[netip.Addr][]*conn)
	for i, e := 0, l.open.Front(); e != nil; i, e = i+1, e.Next() {
		if e.Value != all[i] {
			t.Fatal("not in order")
		}
		own[all[i].client] = append(own[all[i].client], all[i])
	}
	for client, list := range l.clients {
		if list.Len() > l.perClient || list.Len() != len(own[client]) {
			t.Fatalf("%s has %d, and %d", client, len(own[client]), list.Len())
		}
		for i, e := 0, list.Front(); e != nil; i, e = i+1, e.Next() {
			if e.Value != own[client][i] {
				t.Fatalf("those of %s are not in order", client)
			}
		}
	}
}

// One client takes all places that it can get: others keep theirs, and more come in.
func TestOneClientWantsAllPlaces(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) { l.conns = 50 })
	slow := r.silent(r.addr, "127.0.0.2", 1, nil)[0]
	kept := r.client()
	r.status(kept)
	r.silent(r.addr, "127.0.0.3", 200, nil)
	for range 3 {
		r.status(r.client())
	}
	rep := r.status(kept)
	if rep.Handshakes.Signed != 4 || rep.Handshakes.Failed != 0 {
		t.Errorf("%+v\n%s", rep.Handshakes, r.log)
	}
	if c := rep.Connections; c != (connections{Open: 1 + 4 + 12, Limit: 50, Evicted: 188}) {
		t.Errorf("%+v", c)
	}
	r.handshakeOver(slow)
	_, body := r.get(kept, "/", "text/plain")
	mention(t, body, "closed      188 connections, silent or idle, because at most 50 may be open")
	r.server.log.end()
	mention(t, r.log.String(), "closed 188 connections to make room for others")
}

// A client waits for a place until a connection is idle, or is stuck.
func TestWaitsForAPlace(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) { l.conns = 1 })
	c := r.silent(r.addr, "127.0.0.2", 1, nil)[0]
	for r.server.limiter.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	r.server.limiter.setState(r.server.limiter.notEngaged()[0], answering)
	begin := time.Now()
	if n := r.status(r.client()).Connections; n != (connections{Open: 1, Limit: 1, Evicted: 1}) {
		t.Errorf("%+v", n)
	}
	if took := time.Since(begin); took < grace[answering]/2 || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Error(n, err)
	}
}

// A client that sends much without an answer is cut off; what it may send is enough for
// many requests.
func TestFlood(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	r := newRig(t, "rsa1024", nil).serve(nil)
	c := r.dial(r.addr)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	head := strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 10)
	for range 20 {
		io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: localhost\r\n"+head+"\r\n")
		if n, err := c.Read(make([]byte, 4096)); n == 0 {
			t.Fatal(err)
		}
	}
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
	flood(c, make([]byte, 16<<10))
	if _, err := c.Write([]byte{0}); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still open")
	}
}

// A shortListener has no descriptors left, again and again.
type shortListener struct {
	net.Listener
	failures int
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestDescriptorsRunOut(t *testing.T) {
	rig := newRig(t, "rsa1024", nil)
	rig.listener = func(l net.Listener) net.Listener { return &shortListener{l, 5} }
	r := rig.serve(nil)
	r.status(r.client())
	mention(t, r.log.String(), "cannot take a connection in: accept tcp: accept4: too many open files")
	if n := strings.Count(r.log.String(), "cannot take"); n != 1 {
		t.Errorf("told %d times", n)
	}
}
