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
	"time"

	"maclef/tpmkey"
)

// A peer is another project's signer, in the program of bench/peers.
type peer struct {
	op    *operation
	way   string
	file  keyFile
	stays bool // the key stays loaded; else the signer loads it each time
}

// Roles of the program of bench/peers.
const (
	loadsEachTime = "keyfiles"
	staysLoaded   = "keyfiles-loaded"
)

// rivals are the rows of other projects doing the same on the same TPM in turn.
func (b *bench) rivals() (all []measurement) {
	for _, p := range b.peers {
		name := fmt.Sprintf("go-tpm-keyfiles' TPMKeySigner, %s, %s", p.op.name, p.file.kind())
		if p.stays {
			name = fmt.Sprintf("go-tpm-keyfiles' TPMHandleSigner, %s, %s", p.op.name, p.file.kind())
		}
		all = append(all, measurement{name, func(r *row) error { return b.peer(r, p) }})
	}
	for _, s := range b.servers {
		if s.rival {
			all = append(all, measurement{fmt.Sprintf("full handshakes of openssl s_server with tpm2-openssl, %s, %d clients", s.name, clients),
				func(r *row) error { return b.rivalServer(r, s) }})
		}
	}
	return all
}

func (b *bench) peer(r *row, p peer) error {
	measured, err := inTurns(b.rounds, 1,
		func() (pace, error) { return b.bare(p.op, b.long()) },
		func() (pace, error) { return b.own(p, b.long()) },
		func() (pace, error) {
			reports, err := runChildren(p.task(b, b.tpm.name()))
			if err != nil {
				return pace{}, err
			}
			return pace{reports[0].Done, reports[0].Took}, b.tpm.direct(b.tpm.flushAll)
		})
	if err != nil {
		return err
	}
	r.against(measured)
	if p.stays {
		r.note += ", which verifies its signatures besides"
	}
	return b.countPeer(r, p)
}

// against fills in what a rival did, the third thing that was measured, beside the
// library and the bare commands.
func (r *row) against(measured rates) {
	r.compared(measured, 2, 0)
	r.note = fmt.Sprintf("tpmkey in the same rounds: %.0f, %.2f times as many", measured.median(1), median(measured.ratios(1, 2)))
}

func (p peer) task(b *bench, tpm string) *task {
	t := &task{Role: loadsEachTime, TPM: tpm, Keys: []keyFile{p.file}, For: b.long(), Way: p.way, program: b.peersProgram}
	if p.stays {
		t.Role = staysLoaded
	}
	return t
}

// own is the library doing what the peer does.
func (b *bench) own(p peer, slice time.Duration) (done pace, err error) {
	err = p.file.use(b.tpm.name(), func(k *tpmkey.Key) error {
		if err := p.op.warmUp(k); err != nil {
			return err
		}
		done, err = p.op.repeat(func() *tpmkey.Key { return k }, 1, slice)
		return err
	})
	return done, err
}

func (b *bench) countPeer(r *row, p peer) error {
	proxy, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer proxy.close()
	c, err := startChild(p.task(b, proxy.name()))
	if err != nil {
		return err
	}
	defer c.kill()
	if err := c.ready(); err != nil {
		return err
	}
	proxy.reset()
	if err := c.begin(); err != nil {
		return err
	}
	report, err := c.report()
	if err == nil {
		err = report.err()
	}
	if err != nil {
		return err
	}
	all, _ := proxy.count()
	r.commands = fmt.Sprintf("%.2f", float64(all)/float64(report.Done))
	return b.tpm.direct(b.tpm.flushAll)
}

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
