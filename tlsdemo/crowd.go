package main

import (
	"container/heap"
	"container/list"
	"net"
	"net/netip"
)

// A crowd is connections that stand about, each client's in the order in which
// they came. The client with the most of them is always at hand.
type crowd struct {
	groups map[netip.Addr]*group
	byNeed groupHeap
}

// A group is the connections of one client.
type group struct {
	client netip.Addr
	list.List
	index int // in the heap
}

func newCrowd() *crowd { return &crowd{groups: make(map[netip.Addr]*group)} }

// join puts a connection behind all others of its client.
func (w *crowd) join(c *conn) {
	g := w.groups[c.client]
	if g == nil {
		g = &group{client: c.client}
		w.groups[c.client] = g
		heap.Push(&w.byNeed, g)
	}
	c.crowd, c.place = w, g.PushBack(c)
	heap.Fix(&w.byNeed, g.index)
}

// part takes a connection out that is in.
func (w *crowd) part(c *conn) {
	g := w.groups[c.client]
	g.Remove(c.place)
	c.crowd, c.place = nil, nil
	if g.Len() > 0 {
		heap.Fix(&w.byNeed, g.index)
		return
	}
	heap.Remove(&w.byNeed, g.index)
	delete(w.groups, c.client)
}

// first is the connection that can best be spared: of the client with the most,
// the one that came first. It is nil where there is none.
func (w *crowd) first() *conn {
	if len(w.byNeed) == 0 {
		return nil
	}
	return w.byNeed[0].first()
}

// most is how many connections the client with the most has.
func (w *crowd) most() int {
	if len(w.byNeed) == 0 {
		return 0
	}
	return w.byNeed[0].Len()
}

// all calls f for each connection; f must not change the crowd.
func (w *crowd) all(f func(*conn)) {
	for _, g := range w.groups {
		for e := g.Front(); e != nil; e = e.Next() {
			f(e.Value.(*conn))
		}
	}
}

func (g *group) first() *conn { return g.Front().Value.(*conn) }

// A groupHeap has the largest group on top, and of several the one whose first
// connection has been there longest.
type groupHeap []*group

func (h groupHeap) Len() int { return len(h) }

func (h groupHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.Len() == 0 || b.Len() == 0 || a.Len() != b.Len() {
		return a.Len() > b.Len()
	}
	return a.first().since.Before(b.first().since)
}

func (h groupHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *groupHeap) Push(x any) {
	g := x.(*group)
	g.index = len(*h)
	*h = append(*h, g)
}

func (h *groupHeap) Pop() any {
	last := len(*h) - 1
	g := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return g
}

// clientAddr is what counts as one client: an IPv4 address, or the /64 network
// of an IPv6 address, which one machine has to itself.
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
