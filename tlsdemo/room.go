package main

import (
	"sync"
	"time"
)

// grace is how long a new client may take for its ClientHello before it makes
// room sooner than one that keeps a connection for later.
const grace = time.Second

// A room is the connections that are open, and who goes first when more come
// than fit. Each stands in the crowd of those that do the same, but for those
// whose requests are being answered: they are in none, and stay.
type room struct {
	limit int

	mu     sync.Mutex
	open   int
	mute   *crowd // their clients owe a complete ClientHello
	idle   *crowd // their clients owe the next step, or nothing
	queue  *crowd // they wait for the TPM
	closed bool
}

func newRoom(limit int) *room {
	return &room{limit: limit, mute: newCrowd(), idle: newCrowd(), queue: newCrowd()}
}

// enter takes a new connection in. It returns false where that must be closed:
// at the end, or where nobody can make room. gone are closed to make room.
func (r *room) enter(c *conn) (gone *conn, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	if r.open >= r.limit {
		if gone = r.makeRoom(time.Now()); gone == nil {
			return nil, false
		}
	}
	r.open++
	c.since = time.Now()
	r.mute.join(c)
	return gone, true
}

// spare picks one that can be spared; the caller closes it. It is nil where
// there is none.
func (r *room) spare() *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.makeRoom(time.Now())
}

// makeRoom is spare under mu.
func (r *room) makeRoom(now time.Time) *conn {
	c := r.choose(now)
	if c != nil {
		c.pushed = true
		r.remove(c)
	}
	return c
}

// choose finds who goes. A client that has filled a quarter of the room goes
// before all others, even with connections that wait for the TPM, which stay
// otherwise. Then mute connections go, but for those that have only just come,
// and then idle ones.
func (r *room) choose(now time.Time) *conn {
	share := r.limit / 4
	mute, idle := r.mute.first(), r.idle.first()
	switch {
	case r.idle.most() > max(share, r.mute.most()):
		return idle
	case r.mute.most() > share:
		return mute
	case r.queue.most() > share:
		return r.queue.first()
	case idle == nil, mute != nil && now.Sub(mute.since) >= grace:
		return mute
	}
	return idle
}

// heard takes note that c has sent its ClientHello.
func (r *room) heard(c *conn) { r.move(c, r.idle, 0) }

// signing takes note that c waits for the TPM.
func (r *room) signing(c *conn) { r.move(c, r.queue, 1) }

// answering takes note that a request of c is being answered.
func (r *room) answering(c *conn) { r.move(c, nil, 1) }

// rest takes back one signing or answering.
func (r *room) rest(c *conn) { r.move(c, r.idle, -1) }

func (r *room) move(c *conn, to *crowd, work int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.working += work
	if c.left || work < 0 && c.working > 0 {
		return
	}
	if c.crowd != nil {
		c.crowd.part(c)
	}
	if to != nil {
		c.since = time.Now()
		to.join(c)
	}
}

// leave takes note that c is closed.
func (r *room) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(c)
}

// remove is leave under mu.
func (r *room) remove(c *conn) {
	if c.left {
		return
	}
	c.left = true
	r.open--
	if c.crowd != nil {
		c.crowd.part(c)
	}
}

// engaged takes note that a request has come, which may end in peace.
func (r *room) engaged(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.engaged = true
}

// wasPushed reports whether c was closed to make room.
func (r *room) wasPushed(c *conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.pushed
}

// count is how many connections are open.
func (r *room) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// close lets nobody in any more, and returns those that no request came on yet,
// for the caller to close.
func (r *room) close() (strangers []*conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	pick := func(c *conn) {
		if !c.engaged {
			strangers = append(strangers, c)
		}
	}
	for _, w := range []*crowd{r.mute, r.idle, r.queue} {
		w.all(pick)
	}
	return strangers
}
