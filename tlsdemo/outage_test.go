package main

import (
	"crypto/tls"
	"maclef/internal/tpmtest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// refused makes n handshakes at a time, which must all fail.
func (p *process) refused(n int) {
	p.t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := tls.Dial("tcp", p.addr, &tls.Config{RootCAs: p.roots, ServerName: "localhost"})
			if err == nil {
				c.Close()
				p.t.Error("a handshake without a TPM")
			}
		}()
	}
	wg.Wait()
}

// The TPM goes away while the server runs: it stays, says why once, and serves
// again when the TPM is back.
func TestTPMGone(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "auth", []byte("motdepasse"), testTPMGone)
}

func testTPMGone(t *testing.T, r *rig) {
	t.Parallel()
	p := r.start("-key-pass", "env:LE_MOT", "-wait", "2s")
	p.get()
	r.swtpm.Kill()
	p.refused(3)
	log := p.log.await(t, "handshakes fail")
	mention(t, log, "handshakes fail, the TPM does not answer: ", "; trying again at each handshake")
	r.swtpm.Restart()
	p.get()
	log = p.log.await(t, "the key signs again")
	// The client can know of a failure before the server has counted it.
	if !regexp.MustCompile(`[23] handshakes? failed meanwhile`).MatchString(log) {
		t.Errorf("not counted\n%s", log)
	}
	for range 3 {
		p.get()
	}
	for _, once := range []string{"does not answer", "signs again"} {
		if n := strings.Count(p.log.String(), once); n != 1 {
			t.Errorf("%q is told %d times\n%s", once, n, p.log)
		}
	}
	p.stop()
}

// A TPM that restarts between two handshakes is nobody's business.
func TestTPMRestarts(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "maclef", nil, testTPMRestarts)
}

func testTPMRestarts(t *testing.T, r *rig) {
	t.Parallel()
	free := r.freeKeys()
	p := r.start()
	for range 3 {
		p.get()
		r.swtpm.Restart()
	}
	p.get()
	p.stop()
	if log := p.log.String(); strings.Contains(log, "fail") {
		t.Error(log)
	}
	if now := r.freeKeys(); now != free {
		t.Errorf("room for %d keys, before it %d", now, free)
	}
}

// It can be ended while the TPM is away, and does not take long for it.
func TestEndsWithoutTPM(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "maclef", nil, testEndsWithoutTPM)
}

func testEndsWithoutTPM(t *testing.T, r *rig) {
	t.Parallel()
	p := r.start()
	p.get()
	r.swtpm.Kill()
	begin := time.Now()
	p.cmd.Process.Signal(os.Interrupt)
	err := p.end()
	t.Logf("ended in %v: %v", time.Since(begin), err)
}
