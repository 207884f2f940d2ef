package tpmkey_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"maclef/blob"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

var allRestarts = flag.Bool("allrestarts", false, "TestRestartInFirstUse: all cases, not only the most telling and some others")

// A restart is one of the TPM in the middle of a command.
type restart struct {
	after   bool // the old TPM has carried the command out, else the new one gets it
	cut     bool // there is no answer: the connection ends; before the command the TPM does not get that
	inOrder bool // it was told before
}

func (r restart) String() string {
	text := map[bool]string{false: "before", true: "after"}[r.after]
	if r.inOrder {
		text = "in order " + text
	}
	if r.cut {
		text += ", cut"
	}
	return text
}

// restarts are all of a generation. A TPM 1.2 is told nothing.
func (gen generation) restarts() (all []restart) {
	for i := range 8 {
		if r := (restart{i&1 > 0, i&2 > 0, i&4 > 0}); !r.inOrder || gen.is20() {
			all = append(all, r)
		}
	}
	return all
}

func (r restart) fault(sw *tpmtest.SWTPM) tpmtest.Fault {
	f := tpmtest.Fault{Name: r.String(), Cut: r.cut, Lost: r.cut && !r.after}
	now := func(p *tpmtest.Proxy) {
		if r.inOrder {
			tpm20.New(p).Shutdown()
		}
		sw.Restart()
	}
	if !r.after {
		f.Before = func(p *tpmtest.Proxy, _ []byte) { now(p) }
		return f
	}
	var proxy *tpmtest.Proxy
	f.Before = func(p *tpmtest.Proxy, _ []byte) { proxy = p }
	f.Answer = func(_, rsp []byte) []byte {
		now(proxy)
		if r.cut {
			return nil
		}
		return rsp
	}
	return f
}

// A firstUse is the first use of a secret.
type firstUse struct {
	asked, wrong bool
	used         bool // another one was used before, so that a TPM 2.0 that is killed counts that
}

func (u firstUse) String() string {
	return map[bool]string{false: "given ", true: "asked "}[u.asked] + map[bool]string{false: "right", true: "wrong"}[u.wrong] +
		map[bool]string{false: "", true: ", another used before"}[u.used]
}

// A restart in the middle of the first use of a right secret never makes it look wrong. A
// wrong one costs one try besides that of the restart.
func TestRestartInFirstUse(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testRestartInFirstUse)
}

func testRestartInFirstUse(t *testing.T, gen generation) {
	sw := tpmtest.Start(t, gen.state)
	p := tpmtest.StartProxy(t, sw)
	n := 0
	for i := range 8 {
		use := firstUse{i&1 > 0, i&2 > 0, i&4 > 0}
		if use.used && !gen.is20() {
			continue
		}
		commands := (&restartCase{t: t, gen: gen, p: p, firstUse: use}).run(countOnly, tpmtest.Fault{})
		for j, r := range gen.restarts() {
			for at := range commands {
				if *allRestarts || at == commands-1 || (3*i+j+at)%17 == 0 { // the last one proves the secret
					(&restartCase{t, gen, p, use, r, at}).run(at, r.fault(sw))
					n++
				}
			}
		}
	}
	t.Logf("%d cases", n)
}

// A restartCase is one restart at one command of a signature.
type restartCase struct {
	t   *testing.T
	gen generation
	p   *tpmtest.Proxy
	firstUse
	restart
	at int
}

func (c *restartCase) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%v, restart %v of command %d: %s", c.firstUse, c.restart, c.at, fmt.Sprintf(format, args...))
}

// run signs for the first time, and returns how many commands that takes up to the one
// that proves the secret.
func (c *restartCase) run(at int, f tpmtest.Fault) (commands int) {
	c.t.Helper()
	tpm, err := tpmkey.Open(context.Background(), c.p.Name)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		tpm.Close()
		c.forgive()
	}()
	if c.used {
		mustSign(c.t, loadWith(c.t, tpm, c.gen.counted, tutorialSRK(), motdepasse()))
	}
	k := loadWith(c.t, tpm, c.gen.counted, tutorialSRK(), c.secret())
	c.waitIdle()
	c.p.Arm(at, f)
	err = signs(k)
	c.p.Disarm()
	commands = 1 + slices.IndexFunc(c.p.Exchanges(), func(e tpmtest.Exchange) bool { return e.Ordinal == c.gen.sign })
	c.check(err, k)
	if err := signs(loadWith(c.t, tpm, c.gen.counted, tutorialSRK(), motdepasse())); err != nil {
		c.errorf("the right secret fails later: %v", err)
	}
	return commands
}

func (c *restartCase) secret() tpmkey.Secret {
	secret := motdepasse()
	if c.wrong {
		secret = tpmkey.Password([]byte("faux"))
	}
	if !c.asked {
		return secret
	}
	return tpmkey.AskSecret(func() (tpmkey.Secret, error) { return secret, nil })
}

// check checks what became of the signature, and that it costs nothing more.
func (c *restartCase) check(err error, k *tpmkey.Key) {
	c.t.Helper()
	saysWrong := errors.Is(err, tpmkey.ErrWrongKeySecret) || errors.Is(err, tpmkey.ErrWrongSRKSecret)
	switch {
	case !c.wrong && saysWrong, c.wrong && err == nil:
		c.errorf("told as the other: %v", err)
	case !c.wrong && err != nil:
		c.errorf("%v", err)
	case c.wrong:
		for range 2 {
			if err := signs(k); err == nil {
				c.errorf("a wrong secret signs")
			}
		}
	}
	c.waitIdle()
	most := 0
	if c.wrong {
		most++
	}
	if c.gen.is20() && !c.inOrder {
		most++
	}
	if n := c.tries(); n > most {
		c.errorf("%d tries, not %d: %v", n, most, err)
	}
}

func (c *restartCase) waitIdle() {
	c.t.Helper()
	if err := c.p.WaitIdle(faultWatchdog); err != nil {
		c.t.Fatal(err)
	}
}

func (c *restartCase) tries() int {
	c.t.Helper()
	inside, err := (&faultTPM{is20: c.gen.is20()}).inside(c.p)
	if err != nil {
		c.t.Fatal(err)
	}
	return inside.tries
}

func (c *restartCase) forgive() {
	c.t.Helper()
	c.waitIdle()
	if err := (&faultTPM{is20: c.gen.is20()}).forgive(c.p); err != nil {
		c.t.Fatal(err)
	}
}

func loadFile(t *testing.T, tpm *tpmkey.TPM, file blob.Key) *tpmkey.Key {
	t.Helper()
	k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The software TPM comes and goes with its programs. That costs no try, though keys are
// used whose wrong secrets it counts.
func TestEmulatorComesAndGoes20(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 })
		os.RemoveAll(dir)
	})
	use := func(f func(tpm *tpmkey.TPM)) {
		tpm, err := tpmkey.Open(t.Context(), "emulator2:"+dir)
		if err != nil {
			t.Fatal(err)
		}
		f(tpm)
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 })
	}
	var file blob.Key
	use(func(tpm *tpmkey.TPM) {
		if file, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: motdepasse()}); err != nil {
			t.Fatal(err)
		}
	})
	for i := range 4 {
		use(func(tpm *tpmkey.TPM) {
			mustSign(t, loadFile(t, tpm, file), i)
			wantTries(t, tpm, 0)
		})
	}
}
