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

// BenchmarkPeer measures other projects with the same operations on the same TPM. op/s is
// their rate, and tpmkey/s is the library's rate in the same rounds.
func BenchmarkPeer(b *testing.B) {
	c := newTestTPM(b, tpmtest.TPM20)
	rsa, p256 := c.operation(b, "sign-pkcs1"), c.operation(b, "sign-p256")
	for _, p := range []struct {
		role string // of the program peers
		op   *operation
		file keyFile
	}{
		{"TPMKeySigner", rsa, rsa.plain}, {"TPMHandleSigner", rsa, rsa.plain},
		{"TPMKeySigner", p256, p256.plain}, {"TPMHandleSigner", p256, p256.plain}, {"TPMKeySigner", p256, p256.secret},
	} {
		b.Run(fmt.Sprintf("tpm=2.0/peer=%s/op=%s/%s", p.role, p.op.name, p.file), func(b *testing.B) {
			c.comparePeer(b, p.op,
				func() sample { return c.library(b, p.op, []keyFile{p.file}, 1, longSampleTime) },
				func(c *testTPM, ready func()) sample {
					r, err := runChildren(ready, &task{Role: p.role, TPM: c.name(), Keys: []keyFile{p.file}, For: longSampleTime, program: filepath.Join(*bin, "peers")})
					check(b, err)
					return sample{done: r[0].Done, took: r[0].Took}
				})
		})
	}
	for _, name := range []string{"sign-pss", "sign-p256"} {
		s := c.server(b, name, tls.VersionTLS13)
		full := s.task()
		full.For = longSampleTime
		b.Run("tpm=2.0/peer=s_server/tls=1.3/key="+kinds[name].key, func(b *testing.B) {
			c.comparePeer(b, s.operation,
				func() sample { return c.serve(b, s, full, func() {}) },
				func(c *testTPM, ready func()) sample { return c.openssl(b, s, full, ready) })
		})
	}
}

// comparePeer measures a peer. The peer calls ready before the part that counts.
func (c *testTPM) comparePeer(b *testing.B, op *operation, own func() sample, peer func(c *testTPM, ready func()) sample) {
	p := alternate(1,
		func() sample { return c.bare(b, op, longSampleTime) },
		own,
		func() sample { defer c.free(b); return peer(c, func() {}) })
	compare(b, p[0], p[2])
	b.ReportMetric(p[1].perSecond(), "tpmkey/s")
	b.ReportMetric(percent(p[1], p[2]), "%tpmkey")
	front, taken := c.withCounter(b)
	done := peer(front, func() { taken() }).done
	b.ReportMetric(float64(len(taken()))/float64(done), "cmds/op")
	c.free(b)
}

// opensslCommand returns an openssl command. Its property query keeps the hashes of
// tpm2-openssl from filling the TPM.
func (c *testTPM) opensslCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("openssl", append(args, "-propquery", "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes")...)
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI=swtpm:path="+c.socket, "TSS2_LOG=all+none", "LC_ALL=C")
	cmd.SysProcAttr = childAttr
	return cmd
}

// openssl runs openssl s_server for the clients of a task, one after the other. It leaves
// its key loaded.
func (c *testTPM) openssl(b *testing.B, s *server, t *task, ready func()) sample {
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
	p, err := t.runClients(address)
	check(b, err)
	return p
}
