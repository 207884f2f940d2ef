package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"maclef/tpmkey"
)

// plain connects without TLS.
func (r *running) plain() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestHalfOpenHandshakeIsClosed(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) { l.handshake = 300 * time.Millisecond })
	for name, first := range map[string][]byte{"silent": nil, "begun": {22, 3, 1, 0, 200, 1}} {
		c := r.plain()
		begin := time.Now()
		c.Write(first)
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: still open", name)
		}
		if took := time.Since(begin); took < 200*time.Millisecond || took > 10*time.Second {
			t.Errorf("%s: closed after %v", name, took)
		}
		r.log.await(t, "TLS handshake failed: not done in 300ms")
	}
	if h := r.status(r.client()).Handshakes; h.Failed != 2 || h.Complete != 1 {
		t.Errorf("%+v", h)
	}
}

func TestSlowRequestsAreClosed(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(func(l *limits) {
		l.header, l.read, l.idle = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	})
	for name, first := range map[string]string{
		"silent":     "",
		"half":       "GET / HTTP/1.1\r\nHost: local",
		"keep alive": "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		c := r.dial(r.addr)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, first)
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still open", name)
		}
	}
}

func TestGarbage(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(nil)
	noise := make([]byte, 4096)
	rand.Read(noise)
	for _, bytes := range [][]byte{noise, {22, 3, 1, 255, 255}, []byte("SSH-2.0-OpenSSH_9.2\r\n"), {0}} {
		c := r.plain()
		c.Write(bytes)
		c.(*net.TCPConn).CloseWrite()
		io.ReadAll(c) // until it is closed
	}
	r.log.await(t, "TLS handshake failed: ")
	c := r.plain()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, _ := io.ReadAll(c)
	mention(t, string(answer), "400 Bad Request", "write https://")
	mention(t, r.log.await(t, "speaks HTTP"), "the client speaks HTTP, not HTTPS")
	if h := r.status(r.client()).Handshakes; h.Failed != 5 || h.Complete != 1 {
		t.Errorf("%+v", h)
	}
}

// Clients that do not trust the certificate, or insist on TLS 1.3.
func TestClientsThatRefuse(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(nil)
	if _, err := tls.Dial("tcp", r.addr, &tls.Config{ServerName: "localhost"}); err == nil {
		t.Error("trusted without a reason")
	}
	mention(t, r.log.await(t, "\n"), "(the client does not trust this certificate)")
	if _, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: r.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}); err == nil {
		t.Error("TLS 1.3 with a key without PSS")
	}
	r.log.await(t, "this server has TLS 1.2, and TLS 1.3 where its key can sign for that")
}

// Clients that are too old for a key of a TPM 2.0, or have nothing for its kind.
func TestOldClients(t *testing.T) {
	r := gen20.rig(t, "tpm2/e2-p256.pem", nil).serve(nil)
	for want, old := range map[string]*tls.Config{
		"this server has TLS 1.2, and TLS 1.3 where": {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"the client has none for a key of this kind": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		old.RootCAs, old.ServerName = r.roots, "localhost"
		if _, err := tls.Dial("tcp", r.addr, old); err == nil {
			t.Errorf("served, without %q", want)
		}
		r.log.await(t, want)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("serve", func(t *testing.T) {
		r := newRig(t, "rsa1024", nil).serve(nil)
		r.status(r.client())
		r.dial(r.addr)
		r.plain()
	})
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before it %d\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestOutagesAreToldOnce(t *testing.T) {
	out := new(bytes.Buffer)
	j := newJournal(out)
	locked := func(n int) error { return fmt.Errorf("sign: %w (%d s)", tpmkey.ErrLockedOut, n) }
	j.keyFailed(locked(1))
	j.keyFailed(locked(2))
	j.keyWorks(new(conn)) // a client that hung up before anything was signed
	j.keyFailed(tpmkey.ErrBusy)
	j.keyFailed(fmt.Errorf("sign: %w", tpmkey.ErrGone))
	j.keyFailed(fmt.Errorf("open it again: %w", tpmkey.ErrNoTPM))
	j.keyFailed(fmt.Errorf("gave up waiting: %w: %w", tpmkey.ErrBusy, context.DeadlineExceeded))
	j.keyWorks(&conn{sample: sample{number: 1}})
	j.keyWorks(&conn{sample: sample{number: 2}})
	j.keyFailed(tpmkey.ErrClosed)
	j.end()
	got := regexp.MustCompile(`(?m)^\S+ \S+ `).ReplaceAllString(out.String(), "")
	want := `handshakes fail, the key does not sign: sign: the TPM is locked out after too many wrong secrets (1 s); trying again at each handshake
2 handshakes failed before
handshakes fail, the key does not sign: TPM is busy; trying again at each handshake
1 handshake failed before
handshakes fail, the TPM does not answer: sign: connection to the TPM lost; trying again at each handshake
3 handshakes failed meanwhile
the key signs again
handshakes fail, the key does not sign: already closed
1 handshake failed since then
`
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestTroublesDoNotFlood(t *testing.T) {
	out := new(bytes.Buffer)
	j := newJournal(out)
	for i := range 500 {
		j.trouble("client %d", i)
	}
	j.flush()
	if n := strings.Count(out.String(), "\n"); n != troubleLines+1 {
		t.Errorf("%d lines", n)
	}
	mention(t, out.String(), "… and 490 lines like these")
}
