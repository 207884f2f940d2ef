package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maclef/internal/tpmtest"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	r := gen12.rig(t, "rsa1024", nil).serve(nil)
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
		"this server has TLS 1.2, and TLS 1.3 where":                              {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"the client takes certificates with RSA keys only, and this key is ECDSA": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		old.RootCAs, old.ServerName = r.roots, "localhost"
		if _, err := tls.Dial("tcp", r.addr, old); err == nil {
			t.Errorf("served, without %q", want)
		}
		r.log.await(t, want)
	}
}

// Other programs refuse in other ways than Go: OpenSSL's alert in TLS 1.3 is not encrypted.
func TestOtherProgramsThatRefuse(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testOtherProgramsThatRefuse)
}

func testOtherProgramsThatRefuse(t *testing.T, rig *rig) {
	t.Parallel()
	r := rig.serve(nil)
	const distrust = "remote error: tls: unknown certificate authority (the client does not trust this certificate)"
	sClient := "openssl s_client -connect " + r.addr
	for command, want := range map[string]string{
		sClient + " -verify_return_error":                                                  distrust,
		sClient + " -verify_return_error -no_middlebox":                                    distrust,
		sClient + " -verify_return_error -tls1_2":                                          distrust,
		"curl -sS https://" + r.addr:                                                       distrust,
		sClient + " -tls1_2 -cipher AES128-SHA":                                            "(the client offers key exchange by RSA, not by ECDHE ",
		sClient + " -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:ARIA128-GCM-SHA256":          "(this server needs ECDHE with ",
		sClient + " -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256 -groups brainpoolP256r1":   "(the client has no elliptic curve ",
		sClient + " -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256":                         "(the client takes certificates with ECDSA keys only, and this key is RSA)",
		sClient + " -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256 -sigalgs rsa_pkcs1_sha224": "(the client takes no signature that this key can make)",
	} {
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err == nil {
			t.Errorf("%s: no error\n%s", command, out)
		}
		r.log.await(t, want)
	}
	if log := r.log.String(); strings.Count(log, distrust) != 4 || strings.Contains(log, "bad record MAC") {
		t.Error(log)
	}
	if r.family == "2.0" {
		exec.Command("openssl", "s_client", "-connect", r.addr, "-tls1_3", "-groups", "X448").Run()
		r.log.await(t, "(the client has no elliptic curve that this server has, such as P-256)")
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

// helloOf is what a client of Go says first.
func helloOf(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go tls.Client(theirs, &tls.Config{ServerName: "localhost"}).Handshake()
	head := make([]byte, 5)
	if _, err := io.ReadFull(ours, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	r := newRig(t, "rsa1024", nil).serve(nil)
	r.handshakeOver(&dripping{r.plain(), 100 * time.Microsecond})
	if h := r.status(r.client()).Handshakes; h.Signed != 2 || h.Failed != 0 {
		t.Errorf("%+v", h)
	}
}

// Clients that hang up while they wait for the TPM, or wait too long, are no
// failures of the key, cost it nothing, and fill no log.
func TestClientsThatGiveUp(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
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
	r.server.log.end()
	mention(t, r.log.String(), "6 clients gave up before the TPM had signed; the last: sign: ")
	if n := strings.Count(r.log.String(), "gave up before"); n != 1 || strings.Contains(r.log.String(), "does not sign") {
		t.Errorf("told %d times\n%s", n, r.log)
	}
}

// awaitTally returns when the counts are as they should be.
func (r *running) awaitTally(as func(tally) bool) {
	r.t.Helper()
	var t tally
	if !soon(func() bool {
		t, _, _ = r.server.stats.snapshot()
		return as(t)
	}) {
		r.t.Fatalf("%+v\n%s", t, r.log)
	}
}
