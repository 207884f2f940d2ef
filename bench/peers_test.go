//go:build linux

package bench

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"maclef/internal/tpmtest"
)

// BenchmarkPeer has other projects do the same on the same TPM in turn. Its op/s are
// theirs, and tpmkey/s are the library's in the same rounds.
func BenchmarkPeer(b *testing.B) {
	c := newChip(b, tpmtest.TPM20)
	rsa, p256 := c.operation(b, "sign-pkcs1"), c.operation(b, "sign-p256")
	for _, p := range []struct {
		role string // of the program of peers
		op   *operation
		file keyFile
	}{
		{"TPMKeySigner", rsa, rsa.plain}, {"TPMHandleSigner", rsa, rsa.plain},
		{"TPMKeySigner", p256, p256.plain}, {"TPMHandleSigner", p256, p256.plain}, {"TPMKeySigner", p256, p256.secret},
	} {
		b.Run(fmt.Sprintf("tpm=2.0/peer=%s/op=%s/%s", p.role, p.op.name, p.file), func(b *testing.B) {
			c.beside(b, p.op,
				func() pace { return c.own(b, p.op, []keyFile{p.file}, 1, long) },
				func(c *chip, ready func()) pace {
					r, err := runChildren(ready, &task{Role: p.role, TPM: c.name(), Keys: []keyFile{p.file}, For: long, program: filepath.Join(*bin, "peers")})
					check(b, err)
					return pace{done: r[0].Done, took: r[0].Took}
				})
		})
	}
	for _, name := range []string{"sign-pss", "sign-p256"} {
		s := c.server(b, name, tls.VersionTLS13)
		full := s.task()
		full.For = long
		b.Run("tpm=2.0/peer=s_server/tls=1.3/key="+kinds[name].key, func(b *testing.B) {
			c.beside(b, s.operation,
				func() pace { return c.serve(b, s, full, func() {}) },
				func(c *chip, ready func()) pace { return c.openssl(b, s, full, ready) })
		})
	}
}

// beside measures a peer, which calls ready before what is counted.
func (c *chip) beside(b *testing.B, op *operation, own func() pace, peer func(c *chip, ready func()) pace) {
	p := alternate(1,
		func() pace { return c.bare(b, op, long) },
		own,
		func() pace { defer c.free(b); return peer(c, func() {}) })
	compare(b, p[0], p[2])
	b.ReportMetric(p[1].perSecond(), "tpmkey/s")
	b.ReportMetric(percent(p[1], p[2]), "%tpmkey")
	front, taken := c.counting(b)
	done := peer(front, func() { taken() }).done
	b.ReportMetric(float64(len(taken()))/float64(done), "cmds/op")
	c.free(b)
}

// opensslCommand has flags with which tpm2-openssl's hashes do not fill the TPM.
func (c *chip) opensslCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("openssl", append(args, "-propquery", "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes")...)
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI=swtpm:path="+c.socket, "TSS2_LOG=all+none", "LC_ALL=C")
	cmd.SysProcAttr = ends
	return cmd
}

// openssl has openssl s_server serve the clients of a task, one after the other. It leaves
// its key loaded.
func (c *chip) openssl(b *testing.B, s *server, t *task, ready func()) pace {
	b.Helper()
	check(b, os.WriteFile(c.path("cert"), s.cert, 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	address := free.Addr().String()
	check(b, free.Close())
	cmd := c.opensslCommand("s_server", "-provider", "default", "-provider", "tpm2",
		"-accept", address, "-key", s.plain.Path, "-cert", c.path("cert"), "-tls1_3", "-num_tickets", "1", "-www")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewReader(out)
	for line := ""; !strings.Contains(line, "ACCEPT"); {
		if line, err = lines.ReadString('\n'); err != nil {
			b.Fatal("openssl s_server does not serve")
		}
	}
	go io.Copy(io.Discard, lines)
	ready()
	p, err := t.at(address)
	check(b, err)
	return p
}
