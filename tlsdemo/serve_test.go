package main

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// dial makes a TLS connection without HTTP.
func (r *rig) dial(addr string) *tls.Conn {
	r.t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: r.roots, ServerName: "localhost"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *running) status(c *http.Client) *report {
	r.t.Helper()
	rsp, body := r.get(c, "/status", "application/json")
	if got := rsp.Header.Get("Content-Type"); got != "application/json" {
		r.t.Errorf("Content-Type %q", got)
	}
	rep := new(report)
	if err := json.Unmarshal([]byte(body), rep); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// A client of Go offers TLS 1.3, and RSA-PSS before anything else.
func TestStatusCounts(t *testing.T) {
	both(t, "maclef", nil, testStatusCounts)
}

func testStatusCounts(t *testing.T, rig *rig) {
	r := rig.serve(nil)
	first := r.client()
	rep := r.status(first)
	c := rep.Connection
	if c.TLS != r.tls || c.HTTP != "HTTP/2.0" || c.Signature != r.signature || c.Resumed || c.ChipMS <= 0 || c.Number != 1 {
		t.Errorf("connection: %+v", c)
	}
	if !strings.HasPrefix(c.Cipher, r.cipher) || rep.Key.Kind != "RSA 2048" || !rep.TPM.Software || rep.TPM.Family != r.family {
		t.Errorf("%+v", rep)
	}
	for range 4 {
		r.status(r.client())
	}
	rep = r.status(first) // no handshake
	h, s := rep.Handshakes, rep.Signatures
	if h != (handshakes{Complete: 5, Signed: 5}) || s.Total != 5 || len(s.LatestMS) != 5 || rep.Connection.Number != 1 {
		t.Errorf("%+v %+v", h, s)
	}
	if s.FastMS <= 0 || s.FastMS > s.MedianMS || s.MedianMS > s.SlowMS || s.LatestMS[0] != c.ChipMS {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentClients(t *testing.T) {
	both(t, "rsa1024", nil, testConcurrentClients)
}

func testConcurrentClients(t *testing.T, rig *rig) {
	r := rig.serve(nil)
	var wg sync.WaitGroup
	for range 8 {
		client := r.client()
		client.Transport.(*http.Transport).DisableKeepAlives = true
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 5 {
				rsp, err := client.Get("https://" + r.addr + "/status")
				if err != nil {
					t.Error(err)
					return
				}
				rsp.Body.Close()
			}
		}()
	}
	wg.Wait()
	if h := r.status(r.client()).Handshakes; h.Complete != 41 || h.Failed != 0 {
		t.Errorf("%+v\n%s", h, r.log)
	}
}

func TestResumption(t *testing.T) {
	both(t, "maclef", nil, testResumption)
}

func testResumption(t *testing.T, rig *rig) {
	r := rig.serve(nil)
	client := r.client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	r.status(client)
	transport.CloseIdleConnections()
	rep := r.status(client)
	c := rep.Connection
	if !c.Resumed || c.Signature != "" || c.ChipMS != 0 || rep.Handshakes != (handshakes{Complete: 2, Signed: 1, Resumed: 1}) {
		t.Errorf("%+v %+v", c, rep.Handshakes)
	}
	if _, body := r.get(client, "/", "*/*"); !strings.Contains(body, "none: a resumed session") {
		t.Error(body)
	}
	if _, body := r.get(client, "/", "text/html"); !strings.Contains(body, "Welcome back") {
		t.Error(body)
	}
	if log := r.log.String(); !strings.Contains(log, " resumed - ") || !strings.Contains(log, " "+r.signature+" ") {
		t.Error(log)
	}
}

func TestCurl(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testCurl)
}

func testCurl(t *testing.T, rig *rig) {
	t.Parallel()
	r := rig.serve(nil)
	out, err := exec.Command("curl", "-sS", "--cacert", r.cert, "https://"+r.addr+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, part := range []string{"A software TPM signed for this connection in", r.tls + ", HTTP/", r.signature + ", ",
		"protects nothing", "1: 1 signed, 0 resumed", "localhost, 127.0.0.1, ::1", "█"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "GET / 200 "+r.tls+" "+r.cipher) || !strings.Contains(log, `"curl/`) {
		t.Error(log)
	}
	out, err = exec.Command("curl", "-sSI", "--http1.1", "--cacert", r.cert, "https://"+r.addr+"/").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 200 OK") {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestOpenSSL(t *testing.T) {
	t.Parallel()
	both(t, "rsa1024", nil, testOpenSSL)
}

func testOpenSSL(t *testing.T, rig *rig) {
	t.Parallel()
	r := rig.serve(nil)
	cmd := exec.Command("openssl", "s_client", "-connect", r.addr, "-CAfile", r.cert, "-verify_return_error",
		"-cipher", "DEFAULT@SECLEVEL=0", "-quiet", "-ign_eof")
	cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "signed for this connection in") {
		t.Fatalf("%v: %s", err, out)
	}
}
