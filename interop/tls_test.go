package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// freePort is a TCP port of this machine that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// serve starts a program that says ready when it serves, until the test ends.
func (c *chip) serve(t *testing.T, ready, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := c.command(ctx, name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		w.Close()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		c.flush(t) // what was killed leaves its key loaded
	})
	if said, ok := await(r, ready); !ok {
		t.Fatalf("%s does not serve:\n%s", name, said)
	}
}

// await reads until a line has this in it. The rest is read and forgotten.
func await(r io.Reader, ready string) (said string, ok bool) {
	type result struct {
		said string
		ok   bool
	}
	done := make(chan result, 1)
	go func() {
		var b strings.Builder
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintln(&b, lines.Text())
			if strings.Contains(lines.Text(), ready) {
				done <- result{b.String(), true}
				io.Copy(io.Discard, r)
				return
			}
		}
		done <- result{b.String(), false}
	}()
	select {
	case got := <-done:
		return got.said, got.ok
	case <-time.After(20 * time.Second):
		return "it says nothing", false
	}
}

// OpenSSL's server with tpm2-openssl serves TLS 1.3 with what keygen and certgen
// made, to Go and to OpenSSL.
func TestOurKeyInTheirServer(t *testing.T) {
	for _, kind := range []string{"rsa2048", "p256"} {
		t.Run(kind, func(t *testing.T) {
			c := newChip(t)
			c.run(t, "keygen", "-type", kind, "key.pem")
			c.run(t, "certgen", "-key", "key.pem", "-out", "crt.pem")
			port := freePort(t)
			args := append([]string{"s_server"}, provider()...)
			c.serve(t, "ACCEPT", "openssl", append(args, "-accept", "127.0.0.1:"+port, "-key", "key.pem", "-cert", "crt.pem", "-www")...)
			dialGo(t, c, port)
			dialOpenSSL(t, c, port)
		})
	}
}

// tlsdemo serves TLS 1.3 with a key and a certificate that openssl made, to Go and to
// OpenSSL.
func TestTheirKeyInOurServer(t *testing.T) {
	for name, args := range map[string][]string{
		"rsa2048": {"-algorithm", "RSA", "-pkeyopt", "bits:2048"},
		"p256":    {"-algorithm", "EC", "-pkeyopt", "group:P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChip(t)
			c.openssl(t, "genpkey", append(args, "-out", "key.pem")...)
			c.openssl(t, "req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=localhost",
				"-addext", "subjectAltName=DNS:localhost", "-out", "crt.pem")
			port := freePort(t)
			c.serve(t, "https://", "tlsdemo", "-accept", port, "-key", "key.pem", "-cert", "crt.pem")
			dialGo(t, c, port)
			dialOpenSSL(t, c, port)
		})
	}
}

// dialGo shakes hands with Go's TLS 1.3.
func dialGo(t *testing.T, c *chip, port string) {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{
		RootCAs: roots(t, c.read(t, "crt.pem")), ServerName: "localhost", MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// dialOpenSSL does with OpenSSL's.
func dialOpenSSL(t *testing.T, c *chip, port string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", "127.0.0.1:"+port, "-tls1_3",
		"-CAfile", c.file("crt.pem"), "-verify_return_error", "-servername", "localhost")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verify return code: 0 (ok)") {
		t.Errorf("openssl s_client: %v\n%s", err, out)
	}
}
