package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// handshakeOver makes a handshake over a connection, and closes it.
func (r *running) handshakeOver(c net.Conn) {
	r.t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	secure := tls.Client(c, &tls.Config{RootCAs: r.roots, ServerName: "localhost"})
	if err := secure.Handshake(); err != nil {
		r.t.Error(err)
	}
	secure.Close()
}

// A dripping connection sends a byte at a time.
type dripping struct {
	net.Conn
	pause time.Duration
}

func (d *dripping) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(d.pause)
	}
	return len(p), nil
}

// Slow is not wrong, until it takes too long.
func TestDrippingClient(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(nil)
	r.handshakeOver(&dripping{r.plain(), 100 * time.Microsecond})
	if h := r.status(r.client()).Handshakes; h.Signed != 2 || h.Failed != 0 {
		t.Errorf("%+v", h)
	}
}

// Clients of all bad kinds at once, and somebody else who is served meanwhile.
func TestHostileCrowd(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) { l.conns = 200 })
	whole := helloOf(t)
	var crowd sync.WaitGroup
	end := make(chan struct{})
	hostile := func(n int, visit func(net.Conn)) {
		for range n {
			crowd.Add(1)
			go func() {
				defer crowd.Done()
				for {
					select {
					case <-end:
						return
					case <-time.After(time.Millisecond):
					}
					c, err := net.Dial("tcp", r.addr)
					if err != nil {
						continue
					}
					c.SetDeadline(time.Now().Add(time.Second))
					visit(c)
					c.Close()
				}
			}()
		}
	}
	hostile(50, func(c net.Conn) { // a byte at a time
		(&dripping{c, 100 * time.Millisecond}).Write(whole[:10])
	})
	hostile(4, func(c net.Conn) { // not a TLS client
		c.Write(bytes.Repeat([]byte("SSH-2.0-"), 1000))
		io.Copy(io.Discard, c)
	})
	hostile(100, func(c net.Conn) { c.Read(make([]byte, 1)) })
	hostile(2, func(c net.Conn) { // half a handshake, which has cost a signature
		c.Write(whole)
		io.Copy(io.Discard, c)
	})
	longest := time.Duration(0)
	for range 20 {
		begin := time.Now()
		r.status(r.client())
		longest = max(longest, time.Since(begin))
	}
	close(end)
	crowd.Wait()
	t.Logf("20 honest clients were served, in %v at most", longest)
}

// Clients that hang up while they wait for the TPM, or wait too long, are no
// failures of the key, cost it nothing, and fill no log.
func TestClientsThatGiveUp(t *testing.T) {
	rig := newRig(t, "rsa1024", nil)
	slow := newSlowTPM(t, rig.swtpm)
	rig.swtpm.Socket = slow.name
	r := rig.serve(func(l *limits) { l.handshake = 3 * time.Second })
	before := slow.signs.Load()
	slow.delay.Store(int64(2 * time.Second))
	served := make(chan struct{})
	go func() {
		defer close(served)
		r.tryHandshake(20 * time.Second)
	}()
	for slow.signs.Load() == before {
		time.Sleep(time.Millisecond)
	}
	whole := helloOf(t)
	patient := r.plain() // two signatures take longer than a handshake may
	patient.Write(whole)
	for range 5 {
		c := r.plain()
		c.Write(whole)
		c.Close()
	}
	io.ReadAll(patient)
	<-served
	r.awaitTally(func(t tally) bool { return t.gaveUp == 6 })
	slow.delay.Store(0)
	slow.rest()
	if n := slow.signs.Load() - before; n != 2 {
		t.Errorf("%d signatures", n)
	}
	rep := r.status(r.client())
	if h := rep.Handshakes; h != (handshakes{Complete: 2, Signed: 2, GaveUp: 6}) || rep.Connections.Open != 1 {
		t.Errorf("%+v %+v\n%s", h, rep.Connections, r.log)
	}
	_, text := r.get(r.client(), "/", "text/plain")
	mention(t, text, "3: 3 signed, 0 resumed; 6 more gave up waiting")
	_, page := r.get(r.client(), "/", browser)
	mention(t, page, "<b>6</b><span>gave up waiting</span>")
	wellFormed(t, page)
	r.server.journal.end()
	mention(t, r.log.String(), "6 clients gave up before the TPM had signed; the last: sign: ")
	if n := strings.Count(r.log.String(), "gave up before"); n != 1 || strings.Contains(r.log.String(), "does not sign") {
		t.Errorf("told %d times\n%s", n, r.log)
	}
}

// awaitTally returns when the counts are as they should be.
func (r *running) awaitTally(as func(tally) bool) {
	r.t.Helper()
	var t tally
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if t, _, _ = r.server.stats.snapshot(); as(t) {
			return
		}
	}
	r.t.Fatalf("%+v\n%s", t, r.log)
}
