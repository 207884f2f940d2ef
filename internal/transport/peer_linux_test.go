package transport

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// peer listens and serves each connection with serve; it returns its address.
func peer(t *testing.T, network, address string, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// answering reads commands and gives the answers in turn, then waits.
func answering(answers ...string) func(net.Conn) {
	return func(c net.Conn) {
		for _, answer := range answers {
			if _, err := io.ReadFull(c, make([]byte, len(probeCommand))); err != nil {
				return
			}
			io.WriteString(c, answer)
		}
		io.Copy(io.Discard, c)
	}
}

const good = "\x00\xC4\x00\x00\x00\x0A\x00\x00\x00\x00"

func TestSocketNotATPM(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		serve func(net.Conn)
		kind  error
		words string
	}{
		{"silent", answering(), ErrBusy, "another program"},
		{"hangs up", func(net.Conn) {}, ErrNoTPM, "like a TPM"},
		{"hangs up when spoken to", func(c net.Conn) { c.Read(make([]byte, 99)) }, ErrNoTPM, "after 0 bytes"},
		{"HTTP", answering("HTTP/1.1 400 Bad Request\r\n\r\n"), ErrNoTPM, `"HTTP/1.1 4`},
		{"SSH", func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH\r\n"); answering()(c) }, ErrNoTPM, `"SSH-2.0-Op`},
		{"zeroes", answering(strings.Repeat("\x00", 64)), ErrNoTPM, "not an answer"},
		{"half a header", answering(good[:7]), ErrNoTPM, "300ms"},
		{"size too small", answering("\x00\xC4\x00\x00\x00\x09\x00\x00\x00\x00"), ErrNoTPM, "claims 9"},
		{"size too big", answering("\x00\xC4\x00\x00\x10\x01\x00\x00\x00\x00"), ErrNoTPM, "claims 4097"},
		{"size huge", answering("\x00\xC4\xFF\xFF\xFF\xFF\x00\x00\x00\x00"), ErrNoTPM, "claims 4294967295"},
		{"truncated", answering("\x00\xC4\x00\x00\x00\x0C\x00\x00\x00\x00\x00"), ErrNoTPM, "300ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			address := peer(t, "tcp", "127.0.0.1:0", row.serve)
			_, err := tryOpen(impatient(), "tcp:"+address)
			wantError(t, err, row.kind, row.words, "tcp:"+address)
		})
	}
}

// After a bad answer the connection is out of step and never used again; there is
// a new one in the next turn.
func TestSocketOutOfStep(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, answer string }{
		{"silent", ""},
		{"half a header", good[:7]},
		{"garbage", "garbage garbage"},
		{"oversize", "\x00\xC4\x00\x00\x10\x01\x00\x00\x00\x00" + strings.Repeat("x", 5000)},
		{"truncated", "\x00\xC4\x00\x00\x00\x0C\x00\x00\x00\x00\x00"},
		{"a garbled refusal", "\x00\xC5\x00\x00\x00\x0A\x00\x00\x00\x01"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			var connections atomic.Int32
			peer(t, "unix", path, func(c net.Conn) {
				if connections.Add(1) == 1 {
					answering(good, row.answer, good, good)(c)
					return
				}
				answering(good, good)(c)
			})
			d, err := impatient().find("unix:" + path)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			release := mustAcquire(t, d)
			if rsp, err := d.Send(probeCommand); err != nil || string(rsp) != good {
				t.Fatal(rsp, err)
			}
			_, err = d.Send(probeCommand)
			wantError(t, err, ErrGone)
			wantBroken(t, d)
			release()
			if rsp, err := d.Send(probeCommand); err != nil || string(rsp) != good || connections.Load() != 2 {
				t.Error("on a new connection:", rsp, err, connections.Load())
			}
		})
	}
}

func TestSocketHangsUpInMidCommand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	peer(t, "unix", path, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(probeCommand)))
		io.WriteString(c, good)
		io.ReadFull(c, make([]byte, len(probeCommand)))
	})
	d := mustOpen(t, "unix:"+path)
	mustAcquire(t, d)
	d.Send(probeCommand)
	_, err := d.Send(probeCommand)
	wantError(t, err, ErrGone, "hung up after 0 bytes")
}
