package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// An exchange replaces the files of a rig.
type exchange struct {
	*rig
	keyOf, certOf map[string][]byte // by the names of the recorded keys
}

// exchangeable has the rig serve from a folder of its own, with the first of some recorded keys.
// The roots are those of all their certificates.
func (r *rig) exchangeable(keySecret []byte, fixtures ...string) *exchange {
	r.t.Helper()
	e := &exchange{r, map[string][]byte{}, map[string][]byte{}}
	roots := x509.NewCertPool()
	for _, name := range fixtures {
		fixture := name
		if like, ok := r.keys[name]; ok {
			fixture = like
		}
		r.key = tpmtest.FixturePath(r.t, fixture)
		secret := keySecret
		if !strings.Contains(name, "auth") {
			secret = nil
		}
		r.certify(secret)
		e.keyOf[name], e.certOf[name] = e.read(r.key), e.read(r.cert)
		roots.AppendCertsFromPEM(e.certOf[name])
	}
	dir := r.t.TempDir()
	r.key, r.cert, r.roots = filepath.Join(dir, "maclef"), filepath.Join(dir, "moncert"), roots
	e.put(fixtures[0], fixtures[0])
	return e
}

func (e *exchange) read(path string) []byte {
	e.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	return data
}

func (e *exchange) write(path string, data []byte) {
	e.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// put writes the files of a key and of a certificate.
func (e *exchange) put(key, cert string) {
	e.t.Helper()
	e.write(e.key, e.keyOf[key])
	e.write(e.cert, e.certOf[cert])
}

// says reloads, and checks the lines that the log gets by it.
func (r *running) says(want ...string) {
	r.t.Helper()
	before := len(r.log.String())
	r.files.reload()
	mention(r.t, r.log.String()[before:], want...)
}

func TestReload(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testReload)
}

func testReload(t *testing.T, rig *rig) {
	t.Parallel()
	e := rig.exchangeable(nil, "maclef", "rsa1024")
	r := e.serve(nil)
	client := r.client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	first := r.status(client)
	r.says("SIGHUP: nothing has changed")
	transport.CloseIdleConnections()
	if c := r.status(client).Connection; !c.Resumed {
		t.Errorf("%+v", c)
	}
	old := r.server.identity().key
	e.put("rsa1024", "rsa1024")
	r.says("SIGHUP: new connections use the changed " + r.key + ", " + r.cert)
	if rep := r.status(client); rep.Certificate.SHA256 != first.Certificate.SHA256 || !rep.Connection.Resumed {
		t.Errorf("the open connection: %+v", rep)
	}
	if rep := r.status(client); rep.Certificate.SHA256 == first.Certificate.SHA256 || rep.Key.Kind == first.Key.Kind || rep.Connection.Resumed {
		t.Errorf("a new connection: %+v", rep)
	}
	awaitClosed(t, old)
	key := r.server.identity().key
	e.write(r.cert, append([]byte("renewed\n"), e.certOf["rsa1024"]...))
	r.swtpm.Kill() // the key is the same: the TPM is not needed
	r.says("SIGHUP: new connections use the changed " + r.cert)
	r.swtpm.Restart()
	if r.status(r.client()); r.server.identity().key != key {
		t.Error("the same key was loaded again")
	}
	r.wantNothingInTPM()
}

// awaitClosed returns when a key cannot be used any more, which must be soon.
func awaitClosed(t *testing.T, key *servedKey) {
	t.Helper()
	var err error
	if !soon(func() bool {
		_, err = key.Sign(nil, make([]byte, 32), crypto.SHA256)
		return errors.Is(err, tpmkey.ErrClosed)
	}) {
		t.Errorf("the old key is still open: %v", err)
	}
}

// What does not fit changes nothing.
func TestReloadOfBadFiles(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "maclef", nil, testReloadOfBadFiles)
}

func testReloadOfBadFiles(t *testing.T, rig *rig) {
	t.Parallel()
	e := rig.exchangeable(nil, "maclef", "rsa1024")
	ca := newClientCA(t, t.TempDir(), "ca")
	good := e.read(ca.path("ca.crt"))
	rig.flags = []string{"-client-ca", ca.path("ca.crt"), "-client-optional"}
	r := e.serve(nil)
	id := r.server.identity()
	const kept = "SIGHUP: what was in use stays in use: "
	for name, row := range map[string]struct {
		key, cert, ca []byte
		want          []string
	}{
		"other key":         {e.keyOf["rsa1024"], e.certOf["maclef"], good, []string{"the certificate is not one of this key", "(hint: make one for this key: certgen -key " + r.key}},
		"other certificate": {e.keyOf["maclef"], e.certOf["rsa1024"], good, []string{r.cert + ": certificate: the certificate is not one of this key"}},
		"no key":            {nil, e.certOf["maclef"], good, []string{"read " + r.key + ": no such file", "(hint: name the file"}},
		"no certificate":    {e.keyOf["maclef"], nil, good, []string{"read " + r.cert + ": no such file", "(hint: make a certificate"}},
		"half a key":        {e.keyOf["maclef"][:100], e.certOf["maclef"], good, []string{r.key}},
		"half certificate":  {e.keyOf["maclef"], e.certOf["maclef"][:100], good, []string{r.cert + ": certificate: a damaged or truncated certificate"}},
		"certificates":      {e.keyOf["rsa1024"], e.certOf["rsa1024"], []byte("\n"), []string{"ca.crt: client CAs: an empty file, not a certificate", "(hint: -client-ca takes"}},
	} {
		for path, data := range map[string][]byte{r.key: row.key, r.cert: row.cert, ca.path("ca.crt"): row.ca} {
			os.Remove(path)
			if data != nil {
				e.write(path, data)
			}
		}
		r.says(append(row.want, kept)...)
		if r.server.identity() != id {
			t.Errorf("%s: it is in use", name)
		}
	}
	e.put("rsa1024", "rsa1024")
	e.write(ca.path("ca.crt"), good)
	r.swtpm.Kill()
	r.says(kept)
	r.swtpm.Restart()
	r.status(r.client())
	r.wantNothingInTPM()
}

// A client of a CA that has gone cannot go on, nor resume; one of the new CA can.
func TestReloadOfClientCAs(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testReloadOfClientCAs)
}

func testReloadOfClientCAs(t *testing.T, rig *rig) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := newClientCA(t, dir, "ca"), newClientCA(t, dir, "other")
	ca.issue("alice", p256, "/CN=alice", forUser, "10")
	other.issue("mallory", p256, "/CN=mallory", forUser, "10")
	e := rig.exchangeable(nil, "maclef")
	cas, both := ca.path("cas"), append(e.read(ca.path("ca.crt")), e.read(ca.path("other.crt"))...)
	rig.flags = []string{"-client-ca", cas}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		e.write(cas, e.read(ca.path("ca.crt")))
		r := e.serve(nil)
		alice, mallory := r.as(ca, "alice", version), r.as(ca, "mallory", version)
		r.refuses(mallory, "the certificate of the client CN=mallory: x509: ")
		r.status(alice)
		e.write(cas, both)
		r.says("SIGHUP: new connections use the changed " + cas)
		for range 2 { // the open connection, and one without resumption
			if c := r.status(alice).Connection; c.Resumed {
				t.Errorf("%+v", c)
			}
		}
		r.status(mallory)
		alice.CloseIdleConnections()
		if c := r.status(alice).Connection; !c.Resumed { // so she has a session of the last CAs
			t.Errorf("%+v", c)
		}
		e.write(cas, e.read(ca.path("other.crt")))
		r.says("SIGHUP: new connections use the changed " + cas)
		if rsp, body := r.get(alice, "/", "*/*"); rsp.StatusCode != http.StatusForbidden {
			t.Errorf("an open connection of a CA that has gone: %s", body)
		}
		r.refuses(alice, "the certificate of the client CN=alice: x509: certificate signed by unknown authority")
		r.status(mallory)
		if c := r.status(mallory).Connection; c.Resumed || c.Subject != "CN=mallory" {
			t.Errorf("%+v", c)
		}
	}
}

// OpenSSL's clients have a session of an old client CA in vain, too.
func TestReloadEndsSessionsOfOpenSSL(t *testing.T) {
	both(t, "maclef", nil, testReloadEndsSessionsOfOpenSSL)
}

func testReloadEndsSessionsOfOpenSSL(t *testing.T, rig *rig) {
	dir := t.TempDir()
	ca, other := newClientCA(t, dir, "ca"), newClientCA(t, dir, "other")
	ca.issue("alice", p256, "/CN=alice", forUser, "10")
	e := rig.exchangeable(nil, "maclef")
	cas := ca.path("cas")
	e.write(cas, e.read(ca.path("ca.crt")))
	rig.flags = []string{"-client-ca", cas}
	r := e.serve(nil)
	connect := func(option string) string {
		cmd := exec.Command("openssl", "s_client", "-connect", r.addr, "-servername", "localhost", "-CAfile", r.cert,
			"-cert", ca.path("alice.crt"), "-key", ca.path("alice.key"), "-ign_eof", option, ca.path("session"))
		cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		out, _ := cmd.CombinedOutput() // its status may be 1 after the end, too
		return string(out)
	}
	mention(t, connect("-sess_out"), "\nNew, TLS", "HTTP/1.1 200")
	mention(t, connect("-sess_in"), "\nReused, TLS", "HTTP/1.1 200")
	e.write(cas, e.read(other.path("other.crt")))
	r.says("SIGHUP: new connections use the changed " + cas)
	if out := connect("-sess_in"); strings.Contains(out, "Reused, TLS") || strings.Contains(out, "HTTP/1.1 200") {
		t.Error(out)
	}
	r.log.await(t, "the certificate of the client CN=alice: x509: ")
}

// A handshake that has begun ends with the key that it began with.
func TestReloadDuringHandshake(t *testing.T) {
	both(t, "maclef", nil, testReloadDuringHandshake)
}

func testReloadDuringHandshake(t *testing.T, rig *rig) {
	e := rig.exchangeable(nil, "maclef", "rsa1024")
	r := e.serve(nil)
	old := r.server.identity()
	c := r.plain()
	if !soon(func() bool { return r.server.limiter.count() > 0 }) {
		t.Fatal("no connection")
	}
	time.Sleep(50 * time.Millisecond) // the handshake has its key
	e.put("rsa1024", "rsa1024")
	r.says("SIGHUP: new connections use the changed ")
	time.Sleep(50 * time.Millisecond)
	secure := tls.Client(c, &tls.Config{RootCAs: r.roots, ServerName: "localhost"})
	if err := secure.Handshake(); err != nil || !secure.ConnectionState().PeerCertificates[0].Equal(old.leaf) {
		t.Errorf("%v", err)
	}
	io.WriteString(secure, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if page, err := io.ReadAll(secure); err != nil || !strings.Contains(string(page), "\r\nConnection: close\r\n") {
		t.Errorf("%v: %s", err, page)
	}
	awaitClosed(t, old.key)
}

// Reloads under way disturb no client, and nothing stays in the TPM.
func TestManyReloads(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	both(t, "maclef", nil, testManyReloads)
}

func testManyReloads(t *testing.T, rig *rig) {
	e := rig.exchangeable(nil, "maclef", "rsa1024")
	r := e.serve(nil)
	stop, clients := make(chan struct{}), sync.WaitGroup{}
	for i := range 4 {
		client := r.client()
		client.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = i < 2
		clients.Add(1)
		go func() {
			defer clients.Done()
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				rsp, err := client.Get("https://" + r.addr + "/status")
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, rsp.Body)
				rsp.Body.Close()
			}
		}()
	}
	var used []*servedKey
	for i := range 100 {
		used = append(used, r.server.identity().key)
		name := []string{"rsa1024", "maclef"}[i%2]
		e.put(name, name)
		r.says("SIGHUP: new connections use the changed ")
	}
	close(stop)
	clients.Wait()
	for _, key := range used {
		awaitClosed(t, key)
	}
	r.wantNothingInTPM()
	if h := r.status(r.client()).Handshakes; h.Failed+h.Unsigned > 0 {
		t.Errorf("%+v\n%s", h, r.log)
	}
}

// A pipe where a file was stops no reload: perhaps nobody ever writes into it.
func TestReloadWithPipe(t *testing.T) {
	e := newRig(t, "maclef", nil).exchangeable(nil, "maclef")
	r := e.serve(nil)
	os.Remove(r.key)
	if out, err := exec.Command("mkfifo", r.key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.says("SIGHUP: nothing has changed")
	e.write(r.cert, append([]byte("renewed\n"), e.certOf["maclef"]...))
	r.says("SIGHUP: new connections use the changed " + r.cert + "\n")
	r.status(r.client())
}
