package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// A clientCA is a CA for clients, made with openssl.
type clientCA struct {
	t    *testing.T
	dir  string
	name string
}

func newClientCA(t *testing.T, dir, name string) *clientCA {
	ca := &clientCA{t, dir, name}
	ca.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout", name+".key", "-out", name+".crt", "-subj", "/CN="+name)
	return ca
}

// openssl runs it in ca's folder. The words of command have no spaces in them.
func (ca *clientCA) openssl(command string, more ...string) {
	ca.t.Helper()
	cmd := exec.Command("openssl", append(strings.Fields(command), more...)...)
	cmd.Dir = ca.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		ca.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

func (ca *clientCA) path(file string) string { return filepath.Join(ca.dir, file) }

// issue makes NAME.key and NAME.crt.
func (ca *clientCA) issue(name, newkey, subject, extensions, days string) {
	ca.t.Helper()
	if err := os.WriteFile(ca.path("ext"), []byte(strings.ReplaceAll(extensions, " ", "\n")), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	ca.openssl("req -nodes -new -newkey "+newkey+" -keyout", name+".key", "-out", name+".csr", "-subj", subject)
	ca.openssl("x509 -req -extfile ext -days "+days+" -in", name+".csr", "-CA", ca.name+".crt", "-CAkey", ca.name+".key", "-CAcreateserial", "-out", name+".crt")
}

// expire replaces NAME.crt by one that ended an hour ago, which openssl since 3.4 does not make.
func (ca *clientCA) expire(name string) {
	ca.t.Helper()
	issuer, err := tls.LoadX509KeyPair(ca.path(ca.name+".crt"), ca.path(ca.name+".key"))
	if err != nil {
		ca.t.Fatal(err)
	}
	old, err := tls.LoadX509KeyPair(ca.path(name+".crt"), ca.path(name+".key"))
	if err != nil {
		ca.t.Fatal(err)
	}
	cert := old.Leaf
	cert.NotBefore, cert.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, issuer.Leaf, cert.PublicKey, issuer.PrivateKey)
	if err != nil {
		ca.t.Fatal(err)
	}
	if err := os.WriteFile(ca.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
}

const (
	p256    = "ec -pkeyopt ec_paramgen_curve:P-256"
	forUser = "extendedKeyUsage=clientAuth"
)

// as returns a client with a certificate, none for "". It sends it whatever CAs the server names.
func (r *running) as(ca *clientCA, name string, version uint16) *http.Client {
	r.t.Helper()
	client := r.client()
	config := client.Transport.(*http.Transport).TLSClientConfig
	config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
	if name == "" {
		return client
	}
	cert, err := tls.LoadX509KeyPair(ca.path(name+".crt"), ca.path(name+".key"))
	if err != nil {
		r.t.Fatal(err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return client
}

// refuses checks that a client gets no page.
func (r *running) refuses(c *http.Client, log string) {
	r.t.Helper()
	if rsp, err := c.Get("https://" + r.addr + "/status"); err == nil {
		rsp.Body.Close()
		r.t.Errorf("served: %s; want %q", rsp.Status, log)
	}
	r.log.await(r.t, log)
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testClientCertificates)
}

func testClientCertificates(t *testing.T, rig *rig) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := newClientCA(t, dir, "ca"), newClientCA(t, dir, "other")
	ca.issue("alice", p256, "/O=Ma <b>clef/CN=alice", forUser, "10")
	ca.issue("bob", "rsa:2048", "/CN=bob", forUser, "10")
	ca.issue("nameless", p256, "/", forUser+" subjectAltName=email:jean@example.org", "10")
	ca.issue("server", p256, "/CN=server", "extendedKeyUsage=serverAuth", "10")
	ca.issue("expired", p256, "/CN=expired", forUser, "10")
	ca.expire("expired")
	other.issue("mallory", p256, "/CN=mallory", forUser, "10")
	rows := []struct{ name, subject, refused string }{
		{"alice", `CN=alice,O=Ma \<b\>clef`, ""},
		{"bob", "CN=bob", ""},
		{"nameless", "jean@example.org", ""},
		{"mallory", "", "the certificate of the client CN=mallory: x509: certificate signed by unknown authority (no CA of -client-ca has issued it)"},
		{"server", "", "the certificate of the client CN=server: x509: certificate specifies an incompatible key usage (its extended key usage is not for clients: it lacks clientAuth)"},
		{"expired", "", "the certificate of the client CN=expired: x509: certificate has expired or is not yet valid"},
		{"", "", "tls: client didn't provide a certificate (-client-ca demands one; -client-optional does not)"},
	}
	rig.flags = []string{"-client-ca", ca.path("ca.crt")}
	for _, optional := range []bool{false, true} {
		if optional {
			rig.flags = append(rig.flags, "-client-optional")
			rows[len(rows)-1].refused = ""
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			r := rig.serve(nil)
			for _, row := range rows {
				client := r.as(ca, row.name, version)
				if row.refused != "" {
					r.refuses(client, row.refused)
					continue
				}
				for _, resumed := range []bool{false, true} {
					client.CloseIdleConnections()
					if c := r.status(client).Connection; c.Subject != row.subject || c.Resumed != resumed {
						t.Errorf("%s, optional %v: %+v", row.name, optional, c)
					}
				}
			}
		}
	}
	shownClients(t, rig.serve(nil), ca)
}

// shownClients checks what pages show of clients, and what curl gets.
func shownClients(t *testing.T, r *running, ca *clientCA) {
	_, page := r.get(r.as(ca, "alice", 0), "/", browser)
	mention(t, page, `<dt>Client</dt><dd>CN=alice,O=Ma \&lt;b\&gt;clef`)
	wellFormed(t, page)
	curl := func(name string) (string, error) {
		out, err := exec.Command("curl", "-sS", "--cacert", r.cert, "--cert", ca.path(name+".crt"), "--key", ca.path(name+".key"), "https://"+r.addr).CombinedOutput()
		return string(out), err
	}
	if out, err := curl("bob"); err != nil || !strings.Contains(out, "\n  client      CN=bob\n") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := curl("mallory"); err == nil {
		t.Errorf("mallory is served:\n%s", out)
	}
}

// A client may send the CA certificates between, and a certificate that signs itself is one
// that -client-ca can name.
func TestClientChains(t *testing.T) {
	dir := t.TempDir()
	ca := newClientCA(t, dir, "ca")
	ca.issue("below", p256, "/CN=below", "basicConstraints=critical,CA:true", "10")
	below := &clientCA{t, dir, "below"}
	below.issue("alice", p256, "/CN=alice", forUser, "10")
	below.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout self.key -out self.crt -subj /CN=self -addext basicConstraints=CA:false -addext " + forUser)
	join := func(file string, parts ...string) {
		var all []byte
		for _, part := range parts {
			text, err := os.ReadFile(ca.path(part))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
		if err := os.WriteFile(ca.path(file), all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	join("chain.crt", "alice.crt", "below.crt")
	join("chain.key", "alice.key")
	join("cas.crt", "ca.crt", "self.crt")
	rig := newRig(t, "rsa1024", nil)
	rig.flags = []string{"-client-ca", ca.path("cas.crt")}
	r := rig.serve(nil)
	for _, name := range []string{"chain", "self"} {
		if c := r.status(r.as(ca, name, 0)).Connection; c.Subject == "" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	r.refuses(r.as(ca, "alice", 0), "the certificate of the client CN=alice: x509: certificate signed by unknown authority")
}

// A certificate that has expired since is good for no resumption.
func TestExpiredClientCannotResume(t *testing.T) {
	both(t, "rsa1024", nil, testExpiredClientCannotResume)
}

func testExpiredClientCannotResume(t *testing.T, rig *rig) {
	ca := newClientCA(t, t.TempDir(), "ca")
	ca.issue("alice", p256, "/CN=alice", forUser, "1")
	ca.issue("bob", p256, "/CN=bob", forUser, "10")
	now := time.Now()
	rig.flags = []string{"-client-ca", ca.path("ca.crt")}
	rig.adjust = func(id *identity) { id.config.Time = func() time.Time { return now } }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		now = time.Now()
		r := rig.serve(nil)
		alice, bob := r.as(ca, "alice", version), r.as(ca, "bob", version)
		for range 2 {
			for _, client := range []*http.Client{alice, bob} {
				r.status(client)
				client.CloseIdleConnections()
			}
		}
		now = now.Add(25 * time.Hour)
		if c := r.status(bob).Connection; !c.Resumed {
			t.Errorf("%+v", c)
		}
		r.refuses(alice, "the certificate of the client CN=alice: x509: certificate has expired")
	}
}

func TestBadClientCAs(t *testing.T) {
	r := newRig(t, "rsa1024", nil)
	ca := newClientCA(t, t.TempDir(), "ca")
	ca.openssl("x509 -in ca.crt -trustout -out trusted.crt")
	for file, want := range map[string][2]string{
		"ca.key":      {"client CAs: a private key (PKCS #8, ", "takes certificates, PEM or DER"},
		"trusted.crt": {"convert it with openssl x509 -in FILE -out COPY", "takes certificates, PEM or DER"},
		"none":        {"no such file", "-client-ca takes the name of a file"},
	} {
		_, err := r.fails(r.args("-accept", "0", "-client-ca", ca.path(file))...)
		mention(t, err.Error(), ca.path(file), want[0])
		mention(t, hint(err), want[1])
	}
}

// TLS has room for 64 KB of CAs' names.
func TestTooManyClientCAs(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strings.Repeat("x", 33000)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	name := "cas"
	for n, want := range map[int]string{1: "", 2: "cas: client CAs: their names have 66"} {
		id := &identity{files: &files{clientCAs: bytes.Repeat(one, n)}, config: new(tls.Config)}
		if err := id.askClients(&options{clientCA: &name, clientOptional: new(bool)}); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// Client CAs may be in DER or UTF-16, and have other PEM blocks beside them.
func TestClientCAForms(t *testing.T) {
	ca := newClientCA(t, t.TempDir(), "ca")
	ca.openssl("x509 -in ca.crt -outform DER -out ca.der")
	read := func(file string) []byte {
		data, err := os.ReadFile(ca.path(file))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := x509.NewCertPool()
	want.AppendCertsFromPEM(read("ca.crt"))
	utf16 := []byte{0xff, 0xfe}
	for _, c := range read("ca.crt") {
		utf16 = append(utf16, c, 0)
	}
	for name, data := range map[string][]byte{"DER": read("ca.der"), "UTF-16": utf16, "with its key": append(read("ca.key"), read("ca.crt")...)} {
		id := &identity{files: &files{clientCAs: data}, config: new(tls.Config)}
		if err := id.askClients(&options{clientCA: &name, clientOptional: new(bool)}); err != nil || !id.config.ClientCAs.Equal(want) {
			t.Errorf("%s: error %v, or other CAs", name, err)
		}
	}
}

// The server says at the start which client CAs no client can use.
func TestUselessClientCAs(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	r := newRig(t, "rsa1024", nil)
	ca := newClientCA(t, t.TempDir(), "ca")
	ca.issue("old", p256, "/CN=old CA", "basicConstraints=critical,CA:true", "10")
	ca.expire("old")
	ca.issue("server", p256, "/CN=server", "extendedKeyUsage=serverAuth", "10")
	for name, why := range map[string]string{"old": "expired on ", "server": "has an extended key usage that is not for clients: it lacks clientAuth"} {
		p := r.start("-client-ca", ca.path(name+".crt"))
		mention(t, p.log.String(), "tlsdemo: note: the client CA CN="+name, " of "+ca.path(name+".crt")+" "+why, "; clients with its certificates are refused")
	}
}
