package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maclef/internal/tpmtest"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// HTTP/2, RFC 9113, section 6. The header blocks are requests for the page: RFC 7541,
// section 6 and appendix A.
const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	frameContinuation = 9

	flagEndStream  = 1
	flagEndHeaders = 4

	getPage    = "\x82" + pageFields
	postPage   = "\x83" + pageFields
	pageFields = "\x84\x87\x01\x09localhost\x0f\x04\x09text/html"
	moreFields = "\x00\x01a\x10bbbbbbbbbbbbbbbb"
	cancel     = "\x00\x00\x00\x08"
	noWindow   = "\x00\x04\x00\x00\x00\x00" // SETTINGS_INITIAL_WINDOW_SIZE
)

// frame makes one frame of HTTP/2.
func frame(kind, flags byte, stream int, payload string) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	f = append(f, flags)
	f = binary.BigEndian.AppendUint32(f, uint32(stream))
	return append(f, payload...)
}

// An attack is what a hostile client does with one connection, until the server closes it.
type attack struct {
	protocol string // of HTTP; empty for no TLS
	many     int    // connections; one address may have 48
	act      func(net.Conn)
}

// untilClosed reads for some time. It reports whether the connection is still open then.
func untilClosed(c net.Conn, d time.Duration) (open bool) {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// flood writes the same again and again, and reads nothing.
func flood(c net.Conn, b []byte) {
	for err := error(nil); err == nil; {
		_, err = c.Write(b)
	}
}

// drip writes the same now and then.
func drip(c net.Conn, pause time.Duration, b []byte) {
	for untilClosed(c, pause) {
		c.Write(b)
	}
}

// A deaf connection hears nothing until it is closed.
type deaf struct{ net.Conn }

func (c deaf) Read([]byte) (int, error) {
	untilClosed(c.Conn, time.Minute)
	return 0, io.EOF
}

var attacks = map[string]attack{
	"window of 0": {"h2", 400, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, noWindow))
		for i := range 50 {
			c.Write(frame(frameHeaders, flagEndHeaders|flagEndStream, 2*i+1, getPage))
		}
		untilClosed(c, time.Minute)
	}},
	"window of 0, never idle": {"h2", 60, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, noWindow))
		for i := 1; untilClosed(c, 300*time.Millisecond); i += 2 {
			c.Write(frame(frameHeaders, flagEndHeaders|flagEndStream, i, getPage))
		}
	}},
	"window of 0, with bodies": {"h2", 60, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, noWindow))
		for i := 1; i < 9; i += 2 {
			c.Write(frame(frameHeaders, flagEndHeaders, i, postPage))
		}
		for i := 1; i < 9; i += 2 {
			c.Write(frame(frameData, 0, i, strings.Repeat("x", 4<<10)))
		}
		untilClosed(c, time.Minute)
	}},
	"rapid reset": {"h2", 100, func(c net.Conn) {
		go io.Copy(io.Discard, c)
		c.Write(frame(frameSettings, 0, 0, ""))
		for i, err := 1, error(nil); err == nil; {
			var b bytes.Buffer
			for range 50 {
				b.Write(frame(frameHeaders, flagEndHeaders|flagEndStream, i, getPage))
				b.Write(frame(frameReset, 0, i, cancel))
				i += 2
			}
			_, err = c.Write(b.Bytes())
		}
	}},
	"CONTINUATION": {"h2", 400, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, ""))
		c.Write(frame(frameHeaders, flagEndStream, 1, getPage))
		flood(c, frame(frameContinuation, 0, 1, strings.Repeat(moreFields, 500)))
	}},
	"slow CONTINUATION": {"h2", 60, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, ""))
		c.Write(frame(frameHeaders, flagEndStream, 1, getPage))
		drip(c, 100*time.Millisecond, frame(frameContinuation, 0, 1, moreFields))
	}},
	"long frame": {"h2", 60, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, ""))
		c.Write(frame(frameData, 0, 1, strings.Repeat("x", 1<<20))[:1<<20])
		untilClosed(c, time.Minute)
	}},
	"slow headers": {"http/1.1", 400, func(c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n")
		drip(c, 100*time.Millisecond, []byte("X: y\r\n"))
	}},
	"slow body": {"http/1.1", 60, func(c net.Conn) {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
		drip(c, 100*time.Millisecond, []byte("x"))
	}},
	"reads nothing": {"http/1.1", 60, func(c net.Conn) {
		flood(c, []byte("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n"))
	}},
	"not TLS": {"", 60, func(c net.Conn) { flood(c, bytes.Repeat([]byte("SSH-2.0-"), 1000)) }},
	"slow ClientHello": {"", 60, func(c net.Conn) {
		c.Write([]byte{22, 3, 1, 0x40, 0, 1})
		drip(c, 100*time.Millisecond, []byte{0})
	}},
	"half a handshake": {"", 60, func(c net.Conn) {
		tls.Client(deaf{c}, &tls.Config{ServerName: "localhost"}).Handshake()
	}},
	"idle": {"h2", 60, func(c net.Conn) {
		c.Write(frame(frameSettings, 0, 0, ""))
		untilClosed(c, time.Minute)
	}},
	"idle, HTTP/1.1": {"http/1.1", 60, func(c net.Conn) {
		io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		untilClosed(c, time.Minute)
	}},
}

// launch has n connections from so many addresses attack until the end that it returns.
// When the server closes one, another begins 3 seconds later. launch returns when all have
// begun.
func (p *process) launch(a attack, n, addresses int) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &launcher{attack: a, process: p, ctx: ctx, dialing: make(chan struct{}, 32)}
	l.config = &tls.Config{
		RootCAs: p.roots, ServerName: "localhost", NextProtos: []string{a.protocol},
		ClientSessionCache: tls.NewLRUClientSessionCache(1), // the TPM is not what is attacked
	}
	var begun, running sync.WaitGroup
	begun.Add(n)
	running.Add(n)
	for i := range n {
		go func() {
			defer running.Done()
			l.run(net.IPv4(127, 0, 1, byte(1+i%addresses)), sync.OnceFunc(begun.Done))
		}()
	}
	begun.Wait()
	return func() {
		cancel()
		running.Wait()
	}
}

type launcher struct {
	attack
	*process
	ctx     context.Context
	config  *tls.Config
	dialing chan struct{} // limits how many do so at a time
}

// run attacks from an address until the end. It calls begun at the first attack, or when
// that fails.
func (l *launcher) run(from net.IP, begun func()) {
	for l.ctx.Err() == nil {
		if c := l.connect(from); c != nil {
			stop := context.AfterFunc(l.ctx, func() { c.Close() })
			begun()
			l.act(c)
			stop()
			c.Close()
		}
		begun()
		select {
		case <-l.ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

// connect returns nil if the server does not let it.
func (l *launcher) connect(from net.IP) net.Conn {
	l.dialing <- struct{}{}
	defer func() { <-l.dialing }()
	dialer := &net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	raw, err := dialer.DialContext(l.ctx, "tcp", l.addr)
	if err != nil {
		return nil
	}
	raw.(*net.TCPConn).SetReadBuffer(4096)
	if l.protocol == "" {
		return raw
	}
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	secure := tls.Client(raw, l.config)
	if secure.HandshakeContext(l.ctx) != nil {
		raw.Close()
		return nil
	}
	raw.SetDeadline(time.Time{})
	if l.protocol == "h2" {
		io.WriteString(secure, preface)
	}
	return abrupt{secure, raw}
}

// An abrupt connection is closed without a word: TLS would wait until it has been sent.
type abrupt struct {
	net.Conn
	raw net.Conn
}

func (c abrupt) Close() error { return c.raw.Close() }

// curl fetches the page as a normal client does, in a process of its own, and returns how
// long that took.
func (p *process) curl() time.Duration {
	p.t.Helper()
	out, err := exec.Command("curl", "-sS", "--max-time", "30", "--cacert", p.cert, "-o", "/dev/null", "-w", "%{time_total}",
		"https://"+p.addr+"/").CombinedOutput()
	if err != nil {
		p.t.Errorf("curl: %v: %s", err, out)
		return 0
	}
	seconds, err := strconv.ParseFloat(string(out), 64)
	if err != nil {
		p.t.Error(err)
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}

func (p *process) connections() connections {
	p.t.Helper()
	rsp, err := p.client().Get("https://" + p.addr + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	defer rsp.Body.Close()
	rep := new(report)
	if err := json.NewDecoder(rsp.Body).Decode(rep); err != nil {
		p.t.Fatal(err)
	}
	return rep.Connections
}

// mostMemory is the most that the process had, in MB; 0 if nobody can tell.
func (p *process) mostMemory() (mb int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmHWM: %d kB", &mb)
	}
	return mb >> 10
}

// underRace reports whether this program, and tlsdemo in it, has the race detector, which
// takes several times the memory.
func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// serves checks what holds under any attack: normal clients are served soon, and neither
// memory nor places run out. They should be served within 2 seconds; the test allows for
// slow machines.
func (p *process) serves(clients int) {
	p.t.Helper()
	longest := time.Duration(0)
	for range clients {
		longest = max(longest, p.curl())
	}
	c, mb := p.connections(), p.mostMemory()
	p.t.Logf("served within %v, with at most %d MB; connections: %+v", longest, mb, c)
	if longest > 15*time.Second {
		p.t.Error("too late")
	}
	if mb >= 200 && !underRace() {
		p.t.Error("too much memory")
	}
	if c.Open < 1 || c.Open > c.Limit {
		p.t.Error("these cannot be open")
	}
}

// The large attack is against a server with few descriptors.
func TestAttacks(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			for _, row := range []struct{ n, descriptors int }{{10, 0}, {a.many, 256}} {
				r := gen20.rig(t, "rsa1024", nil)
				r.descriptors = row.descriptors
				p := r.start()
				end := p.launch(a, row.n, 1)
				p.serves(3)
				end()
			}
		})
	}
}

// 5,000 idle clients of many addresses, and as many descriptors as they need.
func TestManyIdleClients(t *testing.T) {
	tpmtest.Long(t, "it makes 5,000 handshakes")
	p := gen20.rig(t, "rsa1024", nil).start()
	defer p.launch(attacks["idle"], 5000, 100)()
	p.serves(20)
}

// Many more normal clients than there are descriptors, all at once: most of them wait for
// a place, and the connections are counted right. A slow machine may not read the
// ClientHello of some in time.
func TestManyClientsAtOnce(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	r := gen20.rig(t, "rsa1024", nil)
	r.descriptors = 256
	p := r.start()
	served := make(chan error)
	const clients = 600
	for i := range clients {
		client := p.client()
		client.Timeout = time.Minute
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%40))}}
		client.Transport.(*http.Transport).DialContext = dialer.DialContext
		go func() {
			rsp, err := client.Get("https://" + p.addr + "/")
			if err == nil {
				_, err = io.ReadAll(rsp.Body)
			}
			served <- err
		}()
	}
	failed, most := 0, 0
	for i := range clients {
		if err := <-served; err != nil {
			failed++
		}
		if i%20 == 0 {
			files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
			most = max(most, len(files))
		}
	}
	t.Logf("%d of %d served; at most %d descriptors", clients-failed, clients, most)
	if failed > clients*3/4 || most > 220 {
		t.Error("too many")
	}
	p.serves(1)
}
