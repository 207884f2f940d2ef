package main

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// arrive lets a connection of a client in, age ago.
func arrive(t *testing.T, r *room, client string, age time.Duration) *conn {
	t.Helper()
	c := &conn{client: netip.MustParseAddr(client), room: r}
	if gone, ok := r.enter(c); gone != nil || !ok {
		t.Fatalf("no room for %s", client)
	}
	c.since = time.Now().Add(-age)
	return c
}

// Who goes, one after the other.
func TestWhoMakesRoom(t *testing.T) {
	mute := func(r *room, c *conn) {}
	idle := func(r *room, c *conn) {
		since := c.since
		r.heard(c)
		c.since = since
	}
	queue := func(r *room, c *conn) { r.heard(c); r.signing(c) }
	answer := func(r *room, c *conn) { r.heard(c); r.answering(c) }
	type guest struct {
		client string
		age    time.Duration
		state  func(*room, *conn)
	}
	for name, row := range map[string]struct {
		guests []guest
		gone   []int // of guests, in their order
	}{
		"the oldest first": {[]guest{{"192.0.2.1", 5e9, mute}, {"192.0.2.2", 7e9, mute}}, []int{1, 0}},
		"mute before idle": {[]guest{{"192.0.2.1", 9e9, idle}, {"192.0.2.2", 2e9, mute}}, []int{1, 0}},
		"a moment's grace": {[]guest{{"192.0.2.1", 9e9, idle}, {"192.0.2.2", 0, mute}, {"192.0.2.3", 0, mute}}, []int{0, 1, 2}},
		"the greedy first": {[]guest{{"192.0.2.1", 9e9, mute}, {"192.0.2.2", 3e9, mute}, {"192.0.2.2", 2e9, mute}}, []int{1, 0, 2}},
		"a quarter idle": {[]guest{{"192.0.2.1", 9e9, mute}, {"192.0.2.2", 2e9, idle}, {"192.0.2.2", 2e9, idle},
			{"192.0.2.2", 2e9, idle}}, []int{1, 0, 2, 3}},
		"those who wait stay":      {[]guest{{"192.0.2.1", 9e9, answer}, {"192.0.2.2", 9e9, queue}, {"192.0.2.3", 9e9, queue}}, nil},
		"unless they are many":     {[]guest{{"192.0.2.1", 9e9, queue}, {"192.0.2.2", 9e9, queue}, {"192.0.2.2", 8e9, queue}, {"192.0.2.2", 7e9, queue}}, []int{1}},
		"the many before the new":  {[]guest{{"192.0.2.2", 9e9, queue}, {"192.0.2.2", 8e9, queue}, {"192.0.2.2", 7e9, queue}, {"192.0.2.1", 0, mute}}, []int{0, 3}},
		"a network is one client":  {[]guest{{"2001:db8::", 9e9, mute}, {"2001:db8:0:1::", 3e9, mute}, {"2001:db8:0:1::", 2e9, mute}}, []int{1, 0, 2}},
		"nobody is there to leave": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(8)
			var all []*conn
			for _, g := range row.guests {
				c := arrive(t, r, g.client, g.age)
				g.state(r, c)
				all = append(all, c)
			}
			for _, c := range all { // in the order of their ages
				if w := c.crowd; w != nil {
					w.part(c)
					w.join(c)
				}
			}
			var gone []int
			for c := r.spare(); c != nil; c = r.spare() {
				gone = append(gone, slices.Index(all, c))
			}
			if !slices.Equal(gone, row.gone) {
				t.Errorf("went: %v, want %v", gone, row.gone)
			}
			if r.count() != len(all)-len(gone) {
				t.Errorf("%d are left of %d", r.count(), len(all))
			}
		})
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

// Whatever happens in whatever order, the counts stay right and the crowd with
// the most is found.
func TestRoomAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	r := newRoom(50)
	clients := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::"}
	var all []*conn
	for range 20000 {
		if len(all) == 0 || rng.IntN(3) == 0 {
			c := &conn{client: netip.MustParseAddr(clients[rng.IntN(len(clients))]), room: r}
			if _, ok := r.enter(c); ok {
				all = append(all, c)
			}
			continue
		}
		c := all[rng.IntN(len(all))]
		switch rng.IntN(5) {
		case 0:
			r.heard(c)
		case 1:
			r.signing(c)
		case 2:
			r.answering(c)
		case 3:
			if c.working > 0 {
				r.rest(c)
			}
		case 4:
			r.leave(c)
		}
		all = slices.DeleteFunc(all, func(c *conn) bool { return c.left })
		checkRoom(t, r, all)
	}
	for _, c := range all {
		r.leave(c)
	}
	if r.count() != 0 || r.spare() != nil || len(r.mute.groups)+len(r.idle.groups)+len(r.queue.groups) != 0 {
		t.Errorf("%d are left", r.count())
	}
}

func checkRoom(t *testing.T, r *room, all []*conn) {
	t.Helper()
	if r.count() != len(all) || len(all) > r.limit {
		t.Fatalf("%d open, counted %d", len(all), r.count())
	}
	for _, w := range []*crowd{r.mute, r.idle, r.queue} {
		most := 0
		for _, g := range w.groups {
			most = max(most, g.Len())
			if w.byNeed[g.index] != g {
				t.Fatal("the heap is in disorder")
			}
		}
		if most != w.most() || len(w.byNeed) != len(w.groups) {
			t.Fatalf("most %d, want %d", w.most(), most)
		}
	}
}
