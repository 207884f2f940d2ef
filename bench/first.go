//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A once is a program that does one thing with a key and ends, as often happens on a chip
// that nobody uses besides.
type once struct {
	name string
	// command is the program, one of this project's, and its arguments.
	command []string
	// Milliseconds that it should take on the slow chip: the first time since the TPM was
	// started, and later.
	first, later float64
	rival        []string // arguments of openssl for the same with tpm2-openssl; nil for none
	kept         bool     // the TPM keeps the key's parent at 0x81000001
	foreign      bool     // the key is of another TPM: first is until other kinds of parents are tried
}

// onces are the programs, with the key files of a TPM 2.0.
func (b *bench) onces(rsa, secret, p256 keyFile) []once {
	text, out := b.tpm.path("text"), []string{"-out", b.tpm.path("out"), "-force"}
	sign := func(f keyFile) []string {
		return append([]string{"tpmctl", "sign", "-key", f.Path, "-in", text}, out...)
	}
	pkeyutl := func(f keyFile) []string {
		return []string{"pkeyutl", "-sign", "-inkey", f.Path, "-rawin", "-digest", "sha256", "-in", text, "-out", b.tpm.path("out")}
	}
	return []once{
		{name: "tpmctl sign, RSA", command: sign(rsa), first: 1600, later: 600, rival: pkeyutl(rsa)},
		{name: "tpmctl sign, ECDSA P-256", command: sign(p256), first: 1600, later: 600, rival: pkeyutl(p256)},
		{name: "tpmctl sign, ECDSA P-256, with secret", command: append(sign(secret), "-key-pass", "pass:"+secret.Password), first: 2200, later: 1100},
		{name: "tpmctl decrypt, RSA", command: append([]string{"tpmctl", "decrypt", "-key", rsa.Path, "-in", b.tpm.path("encrypted")}, out...), first: 2000, later: 1000},
		{name: "tpmctl unseal, 8 PCRs", command: append([]string{"tpmctl", "unseal", "-in", b.tpm.path("sealed")}, out...), first: 2300, later: 1300},
		{name: "certgen, RSA", command: append([]string{"certgen", "-key", rsa.Path, "-host", "localhost"}, out...), first: 1600, later: 600,
			rival: []string{"req", "-x509", "-new", "-key", rsa.Path, "-subj", "/CN=localhost", "-out", b.tpm.path("out")}},
		{name: "tpmctl sign, RSA, SRK kept at 0x81000001", command: sign(rsa), first: 1000, later: 600, kept: true},
		{name: "tpmctl sign, a file of another TPM", command: sign(keyFile{Path: b.tpm.path("foreign")}), first: 2500, later: 600, foreign: true},
	}
}

// prepareOnces makes the files that the programs read.
func (b *bench) prepareOnces(rsa keyFile) error {
	if err := os.WriteFile(b.tpm.path("text"), []byte("text"), 0o600); err != nil {
		return err
	}
	if err := b.makeForeign(b.tpm.path("foreign")); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"tpmctl", "encrypt", "-key", rsa.Path, "-in", b.tpm.path("text"), "-out", b.tpm.path("encrypted"), "-force"},
		{"tpmctl", "seal", "-policy", "pcr:sha256:0,1,2,3,4,5,6,7", "-in", b.tpm.path("text"), "-out", b.tpm.path("sealed"), "-force"},
	} {
		if err := b.runOwn(b.tpm.name(), args); err != nil {
			return err
		}
	}
	return nil
}

// makeForeign makes the file of another TPM's key.
func (b *bench) makeForeign(path string) error {
	other, err := newSoftTPM(b.tpm.generation)
	if err != nil {
		return err
	}
	defer other.remove()
	return b.runOwn(other.name(), []string{"keygen", "-type", "p256", path})
}

// keep has the TPM keep the primary key of most key files, until undo is called.
func (b *bench) keep() (undo func() error, err error) {
	const handle = tpm2.TPMHandle(0x81000001)
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	evict := func(conn *tpm20.Conn, o *tpm20.Object) error {
		_, err := tpm20.Run(conn, tpm2.EvictControl{
			Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: o.Handle, Name: o.Name}, PersistentHandle: handle,
		})
		return err
	}
	return func() error {
			return b.tpm.direct(func(d *direct) error {
				conn := tpm20.New(d)
				kept, err := conn.ReadPublic(handle)
				if err != nil {
					return err
				}
				return evict(conn, kept)
			})
		}, b.tpm.direct(func(d *direct) error {
			conn := tpm20.New(d)
			srk, err := makeSRK(conn)
			if err != nil {
				return err
			}
			return errors.Join(evict(conn, srk), conn.Flush(srk.Handle))
		})
}

// firsts are the rows of programs that do one thing and end.
func (b *bench) firsts() (all []measurement) {
	for _, o := range b.once {
		all = append(all, measurement{"once, on the slow chip: " + o.name, func(r *row) error { return b.doOnce(r, o) }})
	}
	return all
}

// doOnce adds up what the slow chip would take; nothing waits for it.
func (b *bench) doOnce(r *row, o once) (err error) {
	if o.kept {
		undo, err := b.keep()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	slow := b.tpm.behind("slow")
	var ms, primaries, usual atomic.Int64
	chip, err := tpmtest.Listen(slow.socket(), b.tpm.socket(), true, func(c *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
		if commandOf(cmd).name == "CreatePrimary" && primaries.Add(1) == 2 {
			usual.Store(ms.Load())
		}
		ms.Add(int64(slowCost(cmd)))
		return c.Send(cmd)
	})
	if err != nil {
		return err
	}
	defer chip.Wait()
	defer chip.Close()
	took := func(run func() error) (float64, error) {
		ms.Store(0)
		err := run()
		return float64(ms.Load()), err
	}
	if err := b.emptyCache(slow.name()); err != nil {
		return err
	}
	own := func() error {
		err := b.runOwn(slow.name(), o.command)
		if o.foreign && err != nil && strings.Contains(err.Error(), "TPM_RC_INTEGRITY") {
			return nil
		}
		return err
	}
	first, firstErr := took(own)
	later, laterErr := took(own)
	if err := errors.Join(firstErr, laterErr); err != nil {
		return err
	}
	r.note = fmt.Sprintf("%.0f ms, later %.0f ms", first, later)
	if o.foreign {
		r.note = fmt.Sprintf("%d ms, and %.0f ms with all kinds of parents, later %.0f ms", usual.Load(), first, later)
		first = float64(usual.Load())
	}
	r.goals = append(r.goals, atMost("first", o.first, first), atMost("later", o.later, later))
	if o.rival == nil {
		return nil
	}
	rival, err := took(func() error { return b.runOpenSSL(slow.socket(), o.rival) })
	r.note += fmt.Sprintf("; tpm2-openssl %.0f ms", rival)
	return err
}

// emptyCache removes the contexts that are on disk.
func (b *bench) emptyCache(name string) error {
	tpm, err := tpmkey.Open(name)
	if err != nil {
		return err
	}
	_, _, err = tpm.FlushLeftovers(false)
	return errors.Join(err, tpm.Close())
}

func (b *bench) runOwn(tpmName string, command []string) error {
	cmd := exec.Command(filepath.Join(filepath.Dir(b.certgen), command[0]), command[1:]...)
	cmd.Env = append(os.Environ(), "TPMKEY_TPM="+tpmName)
	return runQuietly(cmd)
}

func (b *bench) runOpenSSL(socket string, args []string) error {
	args = append(args, "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes")
	cmd := exec.Command("openssl", args...)
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI=swtpm:path="+socket, "TSS2_LOG=all+none", "LC_ALL=C")
	return errors.Join(runQuietly(cmd), b.tpm.direct(b.tpm.flushAll))
}

// runQuietly runs a program whose words are of interest where it fails.
func runQuietly(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	words, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(words)))
	}
	return nil
}
