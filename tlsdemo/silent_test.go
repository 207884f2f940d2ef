package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// silent opens so many connections, from an address of this machine unless it is
// empty, and says first on each.
func (r *rig) silent(addr, from string, n int, first []byte) []net.Conn {
	r.t.Helper()
	dialer := &net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				c, err := dialer.Dial("tcp", addr)
				if err != nil {
					r.t.Error(err)
					continue
				}
				c.Write(first) // it may be closed already
				conns[i] = c
			}
		}()
	}
	for i := range conns {
		next <- i
	}
	close(next)
	wg.Wait()
	r.t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	return conns
}

// resident is the memory of a process in KB, 0 where nobody can tell.
func resident(pid int) (kb int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &kb)
	}
	return kb
}

// Ten thousand clients that say nothing, or not all: somebody who comes then is
// served as if they were not there.
func TestTenThousandSilentClients(t *testing.T) {
	n := min(10000, descriptors()-200)
	whole := helloOf(t)
	for name, first := range map[string][]byte{
		"nothing": nil, "one byte": whole[:1], "half a hello": whole[:len(whole)/2], "a long record": {22, 3, 1, 0x40, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRig(t, "rsa1024", nil).start()
			p.get()
			before := resident(p.cmd.Process.Pid)
			begin := time.Now()
			p.silent(p.addr, "", n, first)
			came := time.Since(begin)
			begin = time.Now()
			p.get()
			served := time.Since(begin)
			after := resident(p.cmd.Process.Pid)
			t.Logf("%d clients came in %v; the next was served in %v; memory %d MB, before it %d MB: %.1f KB for each",
				n, came, served, after>>10, before>>10, float64(after-before)/float64(n))
			if served > 8*time.Second {
				t.Error("too late")
			}
		})
	}
}

// The room is full of silent connections from one address: others are served,
// and the slow ones among them are not pushed out.
func TestFullHouse(t *testing.T) {
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
	if c := rep.Connections; c.Open != 50 || c.Limit != 50 || c.Pushed != 155 {
		t.Errorf("%+v", c)
	}
	r.handshakeOver(slow)
	_, body := r.get(kept, "/", "text/plain")
	mention(t, body, "pushed out  155 connections")
}

// Where everybody is at work, whoever comes is turned away at once.
func TestNobodyToPushOut(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) { l.conns = 1 })
	c := r.dial(r.addr)
	r.server.room.answering(onlyConn(r.server.room))
	begin := time.Now()
	second := r.plain()
	if n, err := second.Read(make([]byte, 1)); n > 0 || time.Since(begin) > 5*time.Second {
		t.Error(n, err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /status HTTP/1.0\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || !strings.Contains(string(answer), `"closed_for_room": 1`) {
		t.Errorf("%s %v", answer, err)
	}
}

func onlyConn(r *room) (only *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle.all(func(c *conn) { only = c })
	return only
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

func TestConnLimit(t *testing.T) {
	for descriptors, want := range map[int]int{1 << 20: 16384, 20000: 16384, 16448: 16384, 1024: 960, 256: 192, 100: 50} {
		if got := connLimit(descriptors); got != want {
			t.Errorf("%d descriptors: %d", descriptors, got)
		}
	}
}
