package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/cli"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// TestMain lets the test program be tlsdemo itself.
func TestMain(m *testing.M) {
	if os.Getenv("TLSDEMO_RUN") == "1" {
		os.Exit(cli.Main("tlsdemo", run))
	}
	os.Setenv("LE_MOT", "motdepasse") // for -key-pass env:LE_MOT
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){"tlsdemo": main})
}

func TestScript(t *testing.T) {
	tpmtest.RunScripts(t, []string{"certgen", "keygen", "tpmctl"}, nil, nil)
}

// A rig is a software TPM, a key of it, and a certificate of that.
type rig struct {
	generation
	t         *testing.T
	swtpm     *tpmtest.SWTPM
	key, cert string // paths
	roots     *x509.CertPool

	flags       []string // more of them, for serve
	descriptors int      // that start allows, 0 for all

	// What serve alters; nil for nothing.
	adjust   func(*identity)
	listener func(net.Listener) net.Listener
}

// certify makes a certificate for the key.
func (r *rig) certify(keySecret []byte) {
	r.t.Helper()
	tpm := r.open()
	defer tpm.Close()
	opts := &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)}
	if keySecret != nil {
		opts.Auth = tpmkey.Password(keySecret)
	}
	key, err := tpm.LoadFile(context.Background(), r.key, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.cert = filepath.Join(r.t.TempDir(), "moncert")
	algorithm := x509.UnknownSignatureAlgorithm
	if tpmkey.CheckSignMessage(key.File(), nil, crypto.SHA256) != nil { // it is limited to PSS
		algorithm = x509.SHA256WithRSAPSS
	}
	r.roots = writeCertificate(r.t, r.cert, key, algorithm)
}

func (r *rig) open() *tpmkey.TPM {
	r.t.Helper()
	tpm, err := tpmkey.Open(context.Background(), r.swtpm.Socket)
	if err != nil {
		r.t.Fatal(err)
	}
	return tpm
}

// writeCertificate makes a certificate for localhost, signed by key itself.
func writeCertificate(t *testing.T, path string, key *tpmkey.Key, algorithm x509.SignatureAlgorithm) *x509.CertPool {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:       big.NewInt(42),
		Subject:            pkix.Name{CommonName: "localhost", Organization: []string{"Ma <b>clef</b> & Cie"}},
		DNSNames:           []string{"localhost"},
		IPAddresses:        []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:          time.Now().Add(-time.Hour),
		NotAfter:           time.Now().Add(365 * 24 * time.Hour),
		SignatureAlgorithm: algorithm,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return roots
}

// args is a command line that uses the rig, followed by more.
func (r *rig) args(more ...string) []string {
	return append([]string{"-tpm", r.swtpm.Socket, "-srk-pass", "pass:", "-key", r.key, "-cert", r.cert}, more...)
}

// fails runs the command, which must fail, and returns what it wrote on
// standard error, and its error.
func (r *rig) fails(args ...string) (said string, err error) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	err = run(args, strings.NewReader(""), &stdout, &stderr)
	if err == nil {
		r.t.Fatalf("no error; it said %q", stderr.String())
	}
	if stdout.Len() > 0 {
		r.t.Errorf("standard output: %q", stdout.String())
	}
	return stderr.String(), err
}

// A running server of this process.
type running struct {
	*rig
	server *server
	files  *reloader
	addr   string // host and port
	log    *safeBuffer
}

// serve runs a server until the end of the test; change alters its limits.
func (r *rig) serve(change func(*limits)) *running {
	t := r.t
	t.Helper()
	log := new(safeBuffer)
	env := cli.NewEnv("tlsdemo", strings.NewReader(""), io.Discard, log)
	o, err := parse(env, r.args(r.flags...))
	if err != nil {
		t.Fatal(err)
	}
	tpm := r.open()
	files, err := readFiles(env, o)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identify(tpm, o, files)
	if err != nil {
		t.Fatal(err)
	}
	if r.adjust != nil {
		r.adjust(id)
	}
	bounds := defaultLimits()
	if change != nil {
		change(&bounds)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if r.listener != nil {
		listener = r.listener(listener)
	}
	server := newServer(id, bounds, log)
	run := &running{r, server, &reloader{server: server, env: env, options: o, tpm: tpm}, listener.Addr().String(), log}
	stop, done := make(chan struct{}), make(chan error)
	go func() { done <- run.server.serve(listener, stop) }()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
		tpm.Close()
	})
	return run
}

// client is a new one that trusts the certificate and has no connection yet.
func (r *rig) client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: r.roots, ServerName: "localhost"},
		ForceAttemptHTTP2: true,
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// get fetches a page and returns the answer with its body read.
func (r *running) get(c *http.Client, path, accept string) (*http.Response, string) {
	r.t.Helper()
	return r.do(c, http.MethodGet, path, accept)
}

func (r *running) do(c *http.Client, method, path, accept string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, "https://"+r.addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	rsp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return rsp, string(body)
}

// safeBuffer is written by the server while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await returns the log as soon as it has a text, which it must soon.
func (s *safeBuffer) await(t *testing.T, text string) string {
	t.Helper()
	if !soon(func() bool { return strings.Contains(s.String(), text) }) {
		t.Fatalf("%q does not come in\n%s", text, s)
	}
	return s.String()
}

// soon returns true as soon as something is.
func soon(is func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			return true
		}
	}
	return false
}
