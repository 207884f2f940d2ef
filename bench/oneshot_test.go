//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// BenchmarkCertgen measures certgen from start to end. It counts the commands of the first
// use of the key; later the key's context is on disk.
func BenchmarkCertgen(b *testing.B) {
	eachTPM(b, func(b *testing.B, c *testTPM) {
		run := func(key string, file keyFile, most float64) {
			b.Run(fmt.Sprintf("key=%s/%s", key, file), func(b *testing.B) {
				front, taken := c.withCounter(b)
				start := time.Now()
				check(b, c.run("certgen", certificate(file)...))
				b.ReportMetric(time.Since(start).Seconds()*1000, "ms")
				c.free(b)
				taken()
				check(b, front.run("certgen", certificate(file)...))
				atMost(b, "cmds", float64(len(taken())), most)
			})
		}
		if !c.Is20() {
			run("rsa", c.plain["rsa"], 5)
			run("rsa", c.secret["rsa"], math.Inf(1))
			return
		}
		run("rsa", c.plain["rsa"], 10) // includes the TPM's properties and the SRK
		run("rsa", c.secret["rsa"], math.Inf(1))
		run("p256", c.plain["p256"], 10)
	})
}

func certificate(file keyFile) []string {
	args := []string{"-key", file.Path, "-host", "localhost", "-out", "-"}
	if file.Password != "" {
		args = append(args, "-key-pass", "pass:"+file.Password)
	}
	return args
}

// run runs a program of this project.
func (c *testTPM) run(program string, args ...string) error {
	cmd := exec.Command(filepath.Join(*bin, program), args...)
	cmd.Env = append(os.Environ(), "TPMKEY_TPM="+c.name())
	cmd.SysProcAttr = childAttr
	return runQuietly(cmd)
}

// runQuietly runs a program and shows its output only if it fails.
func runQuietly(cmd *exec.Cmd) error {
	words, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Path, err, bytes.TrimSpace(words))
	}
	return nil
}

// A oneShot is a program that does one operation with a key and ends, on a TPM that no
// other program uses.
type oneShot struct {
	name    string
	command []string // program of this project, and its arguments
	// Time that it should take on the slow chip, in milliseconds: the first time after the
	// start of the TPM, and later.
	first, later float64
	peerArgs     []string // arguments of openssl for the same operation with tpm2-openssl; nil for none
	foreign      bool     // the key belongs to another TPM; first is the time until other parents are tried
}

// BenchmarkOnce adds up the time that the slow chip would take. It does not wait for it.
func BenchmarkOnce(b *testing.B) {
	c, kept := newTestTPM(b, tpmtest.TPM20), newTestTPM(b, tpmtest.Kept20)
	text, out := c.path("text"), []string{"-out", c.path("out"), "-force"}
	check(b, os.WriteFile(text, []byte("text"), 0o600))
	check(b, c.run("tpmctl", "encrypt", "-key", c.plain["rsa"].Path, "-in", text, "-out", c.path("encrypted"), "-force"))
	check(b, c.run("tpmctl", "seal", "-policy", "pcr:sha256:0,1,2,3,4,5,6,7", "-in", text, "-out", c.path("sealed"), "-force"))
	with := func(args ...string) []string { return append(args, out...) }
	sign := func(f keyFile) []string { return with("tpmctl", "sign", "-key", f.Path, "-in", text) }
	pkeyutl := func(f keyFile) []string {
		return []string{"pkeyutl", "-sign", "-inkey", f.Path, "-rawin", "-digest", "sha256", "-in", text, "-out", c.path("out")}
	}
	rsa, p256, secret := c.plain["rsa"], c.plain["p256"], c.secret["p256"]
	for _, o := range []oneShot{
		{name: "sign-rsa", command: sign(rsa), first: 1600, later: 600, peerArgs: pkeyutl(rsa)},
		{name: "sign-p256", command: sign(p256), first: 1600, later: 600, peerArgs: pkeyutl(p256)},
		{name: "sign-p256-secret", command: append(sign(secret), "-key-pass", "pass:"+secret.Password), first: 2200, later: 1100},
		{name: "decrypt-rsa", command: with("tpmctl", "decrypt", "-key", rsa.Path, "-in", c.path("encrypted")), first: 2000, later: 1000},
		{name: "unseal-8-pcrs", command: with("tpmctl", "unseal", "-in", c.path("sealed")), first: 2300, later: 1300},
		{name: "certgen-rsa", command: with("certgen", "-key", rsa.Path, "-host", "localhost"), first: 1600, later: 600,
			peerArgs: []string{"req", "-x509", "-new", "-key", rsa.Path, "-subj", "/CN=localhost", "-out", c.path("out")}},
		{name: "sign-foreign", command: sign(kept.plain["p256"]), first: 2500, later: 600, foreign: true},
	} {
		b.Run("tpm=2.0/op="+o.name, func(b *testing.B) { c.oneShot(b, o) })
	}
	b.Run("tpm=2.0/op=sign-rsa-kept-srk", func(b *testing.B) {
		kept.oneShot(b, oneShot{command: sign(kept.plain["rsa"]), first: 1000, later: 600})
	})
}

func (c *testTPM) oneShot(b *testing.B, o oneShot) {
	var ms, usualMs, primaries atomic.Int64
	slow := c.withProxy(b, func(cmd []byte) {
		if commandName(cmd) == "CreatePrimary" && primaries.Add(1) == 2 {
			usualMs.Store(ms.Load())
		}
		ms.Add(int64(slowCost(cmd)))
	})
	took := func(run func() error) float64 {
		ms.Store(0)
		check(b, run())
		return float64(ms.Load())
	}
	own := func() error {
		err := slow.run(o.command[0], o.command[1:]...)
		if o.foreign && err != nil && strings.Contains(err.Error(), "TPM_RC_INTEGRITY") {
			return nil
		}
		return err
	}
	slow.free(b)
	first := took(own)
	if o.foreign {
		b.ReportMetric(first, "all-parents-ms")
		first = float64(usualMs.Load())
	}
	atMost(b, "first-ms", first, o.first)
	atMost(b, "later-ms", took(own), o.later)
	if o.peerArgs != nil {
		b.ReportMetric(took(func() error {
			return runQuietly(slow.opensslCommand(append(o.peerArgs, "-provider", "tpm2", "-provider", "default")...))
		}), "tpm2-openssl-ms")
		c.free(b)
	}
}
