package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/internal/certfile"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// TestFirefox: Firefox, which trusts a CA for www.localhost alone, accepts what certgen issues with
// it, and refuses what certgen does not issue. Firefox resolves names below localhost itself.
func TestFirefox(t *testing.T) {
	tpmtest.Long(t, "it starts Firefox")
	firefox, err := exec.LookPath("firefox-esr") // Debian's
	if err != nil {
		firefox, err = exec.LookPath("firefox") // Ubuntu's
	}
	if err == nil {
		_, err = exec.LookPath("certutil")
	}
	if err != nil {
		t.Fatalf("this test needs Firefox and certutil: run make test, which installs them (%v)", err)
	}
	for _, row := range []struct {
		name     string
		state    tpmtest.State
		key, srk string
		refused  string
	}{
		{"TPM 1.2", tpmtest.Tutorial, "tpm12-tutorial/maclef", "pass:", "other.localhost"},
		{"TPM 2.0", tpmtest.Keys20, "tpm2/pv-p256.pem", "wellknown", "below.www.localhost"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			key, ca, leaf := tpmtest.FixturePath(t, row.key), filepath.Join(dir, "monca"), filepath.Join(dir, "www.crt")
			tpm := tpmtest.Start(t, row.state).Socket
			certgen(t, "-tpm", tpm, "-srk-pass", row.srk, "-key", key, "-ca", "-permit", "www.localhost", "-out", ca)
			soft := newKey(t)
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.localhost"}}, soft)
			if err != nil {
				t.Fatal(err)
			}
			request := filepath.Join(dir, "www.csr")
			if err := os.WriteFile(request, der, 0o600); err != nil {
				t.Fatal(err)
			}
			certgen(t, "-tpm", tpm, "-srk-pass", row.srk, "-key", key, "-sign", request, "-ca-cert", ca, "-copy-names", "-out", leaf)
			f := &browser{program: firefox, ca: ca, key: soft}
			good, bad := readCertificate(t, leaf), readCertificate(t, ca)
			if err := f.visit(t, good, "www.localhost"); err != nil {
				t.Errorf("Firefox refuses what certgen issues: %v", err)
			}
			outside := issueAnyway(t, tpm, key, bad, good, soft.Public(), row.refused)
			if err := f.visit(t, outside, row.refused); err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
				t.Errorf("Firefox does not refuse a certificate for %s: %v", row.refused, err)
			} else {
				t.Logf("%s: %v", row.refused, err)
			}
		})
	}
}

func certgen(t *testing.T, args ...string) {
	t.Helper()
	var stderr strings.Builder
	if err := run(args, strings.NewReader(""), io.Discard, &stderr); err != nil {
		t.Fatalf("certgen %q: %v\n%s", args, err, &stderr)
	}
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := certfile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// issueAnyway issues a certificate like another one, but for a name that certgen refuses.
func issueAnyway(t *testing.T, tpmName, keyFile string, ca, like *x509.Certificate, public crypto.PublicKey, name string) *x509.Certificate {
	t.Helper()
	tpm, err := tpmkey.Open(context.Background(), tpmName)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	opts := &tpmkey.LoadOptions{}
	if tpm.Family() == "1.2" {
		opts.ParentAuth = tpmkey.Password(nil)
	}
	key, err := tpm.LoadFile(context.Background(), keyFile, opts)
	if err != nil {
		t.Fatal(err)
	}
	template := *like
	template.RawSubject, template.DNSNames, template.SerialNumber = nil, []string{name}, nil
	template.Subject.CommonName, template.ExtraExtensions = name, nil
	return parsed(t)(x509.CreateCertificate(rand.Reader, &template, ca, public, key))
}

// A browser is Firefox with a profile that trusts a CA.
type browser struct {
	program, ca string
	key         crypto.Signer // of the server
}

// quiet turns off what a new profile shows and fetches.
const quiet = `user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("termsofuse.bypassNotification", true);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("app.normandy.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
`

// visit opens a page of a server with the certificate. The error is that of the handshake.
func (b *browser) visit(t *testing.T, cert *x509.Certificate, host string) error {
	t.Helper()
	profile, err := os.MkdirTemp("", "certgen-firefox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) }) // unlike t.TempDir, where a child of Firefox still writes
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(quiet), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "-d", "sql:" + profile, "--empty-password"},
		{"-A", "-d", "sql:" + profile, "-n", "monca", "-t", "C,,", "-i", b.ca},
	} {
		if out, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %q: %v\n%s", args, err, out)
		}
	}
	address, outcome := serve(t, tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: b.key})
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(b.program, "--headless", "--no-remote", "--profile", profile,
		"--screenshot", filepath.Join(profile, "page.png"), "https://"+net.JoinHostPort(host, port)+"/")
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	select {
	case err := <-outcome:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("Firefox does not come")
		return nil
	}
}

// serve serves HTTPS. The outcome is nil when a page is asked for, or the error of a handshake.
func serve(t *testing.T, cert tls.Certificate) (address string, outcome <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 16)
	tell := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	server := &http.Server{
		Handler:      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tell(nil) }),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1: Firefox needs no connection before the request
	}
	go server.Serve(&handshaker{ln, &tls.Config{Certificates: []tls.Certificate{cert}}, tell})
	t.Cleanup(func() { server.Close() })
	return ln.Addr().String(), ended
}

// A handshaker is a listener that makes TLS handshakes and tells which fail.
type handshaker struct {
	net.Listener
	config *tls.Config
	tell   func(error)
}

// Accept returns the next connection with a complete handshake.
func (h *handshaker) Accept() (net.Conn, error) {
	for {
		conn, err := h.Listener.Accept()
		if err != nil {
			return nil, err
		}
		secure := tls.Server(conn, h.config)
		conn.SetDeadline(time.Now().Add(time.Minute))
		err = secure.Handshake()
		if err == nil {
			return secure, nil
		}
		conn.Close()
		if !errors.Is(err, io.EOF) { // a connection that Firefox opens to be faster later
			h.tell(err)
		}
	}
}
