//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func (b *bench) rivalServer(r *row, s server) error {
	cert := b.tpm.path("cert")
	if err := os.WriteFile(cert, s.cert, 0o600); err != nil {
		return err
	}
	full := s.task()
	full.For = b.long()
	measured, err := inTurns(b.rounds, 1,
		func() (pace, error) { return b.bare(s.operation, b.long()) },
		func() (pace, error) { return b.serveFor(s, full) },
		func() (pace, error) {
			return b.openssl(b.tpm.socket(), s.key.Path, cert, full.at)
		})
	if err != nil {
		return err
	}
	r.against(measured)
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	done, err := b.openssl(strings.TrimPrefix(p.name(), "unix:"), s.key.Path, cert, func(address string) (pace, error) {
		p.reset()
		return full.at(address)
	})
	if all, _ := p.count(); err == nil {
		r.commands = fmt.Sprintf("%.2f", float64(all)/float64(done.done))
	}
	return err
}

// openssl has openssl s_server serve while use lasts. It serves a client after the
// other. The flags are those with which its hashes do not fill the TPM.
func (b *bench) openssl(socket, key, cert string, use func(address string) (pace, error)) (p pace, err error) {
	address, err := freeAddress()
	if err != nil {
		return p, err
	}
	cmd := exec.Command("openssl", "s_server", "-provider", "default", "-provider", "tpm2",
		"-propquery", "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes",
		"-accept", address, "-key", key, "-cert", cert, "-tls1_3", "-num_tickets", "1", "-www")
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI=swtpm:path="+socket, "TSS2_LOG=all+none", "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.StdoutPipe()
	if err != nil {
		return p, err
	}
	if err := cmd.Start(); err != nil {
		return p, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if flushed := b.tpm.direct(b.tpm.flushAll); err == nil { // it leaves its key loaded
			err = flushed
		}
	}()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return p, fmt.Errorf("openssl s_server does not serve: %s", strings.TrimSpace(words.String()))
		}
		if strings.Contains(line, "ACCEPT") {
			break
		}
	}
	go io.Copy(io.Discard, lines)
	return use(address)
}

// freeAddress is one of this machine where nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
