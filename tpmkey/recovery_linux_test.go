package tpmkey_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// asker is a secret that is asked for, and counts how often.
type asker struct {
	n      atomic.Int32
	answer tpmkey.Secret
	during func() // while it is being asked for
}

func (a *asker) secret() tpmkey.Secret {
	return tpmkey.AskSecret(func() (tpmkey.Secret, error) {
		a.n.Add(1)
		if a.during != nil {
			a.during()
		}
		return a.answer, nil
	})
}

// askedKey loads the fixtures' key with a secret that is asked for, and uses it.
func askedKey(t *testing.T, tpm *tpmkey.TPM) (*tpmkey.Key, *asker) {
	t.Helper()
	a := &asker{answer: motdepasse()}
	k := loadWith(t, tpm, "auth", tutorialSRK(), a.secret())
	mustSign(t, k)
	return k, a
}

// initialize resets a TPM as suspend and resume can: TPM_Startup has to come next.
// swtpm(8), CMD_INIT of the control channel.
func initialize(t *testing.T, sw *tpmtest.SWTPM) {
	t.Helper()
	conn, err := net.Dial("unix", sw.Control)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var code [4]byte
	conn.Write([]byte{0, 0, 0, 2, 0, 0, 0, 0})
	if _, err := io.ReadFull(conn, code[:]); err != nil || code != [4]byte{} {
		t.Fatal(code, err)
	}
}

// flushAll flushes all keys or sessions of a TPM from outside.
func flushAll(t *testing.T, sw *tpmtest.SWTPM, sessions bool) (n int) {
	t.Helper()
	conn := raw(t, sw)
	keys, err := conn.LoadedKeys()
	if err != nil {
		t.Fatal(err)
	}
	open, err := conn.Sessions()
	if err != nil {
		t.Fatal(err)
	}
	if sessions {
		for _, s := range open {
			if err := conn.FlushSession(s); err != nil {
				t.Fatal(err)
			}
		}
		return len(open)
	}
	for _, k := range keys {
		if err := conn.FlushSpecific(k); err != nil {
			t.Fatal(err)
		}
	}
	return len(keys)
}

// losses are ways in which a TPM loses what is loaded, between two operations.
var losses = map[string]func(*testing.T, *tpmtest.SWTPM){
	"restart":             func(t *testing.T, sw *tpmtest.SWTPM) { sw.Restart() },
	"keys flushed":        func(t *testing.T, sw *tpmtest.SWTPM) { flushAll(t, sw, false) },
	"sessions flushed":    func(t *testing.T, sw *tpmtest.SWTPM) { flushAll(t, sw, true) },
	"both flushed":        func(t *testing.T, sw *tpmtest.SWTPM) { flushAll(t, sw, false); flushAll(t, sw, true) },
	"initialized":         initialize,
	"initialized, loaded": func(t *testing.T, sw *tpmtest.SWTPM) { initialize(t, sw); startAndLoad(t, sw) },
	"another's keys":      func(t *testing.T, sw *tpmtest.SWTPM) { sw.Restart(); load(t, raw(t, sw), 3) },
}

// startAndLoad has another program start a TPM, and take the handles.
func startAndLoad(t *testing.T, sw *tpmtest.SWTPM) {
	t.Helper()
	conn := raw(t, sw)
	if err := conn.Startup(); err != nil {
		t.Fatal(err)
	}
	load(t, conn, 3)
}

func load(t *testing.T, conn *tpm12.Conn, n int) {
	t.Helper()
	srk := tpm12.Secret(digestOf("sha1", nil))
	for range n {
		if _, err := conn.LoadKey2(tpm12.SRK, fixture12(t, "wrapped").Bytes(), &srk); err != nil {
			t.Fatal(err)
		}
	}
}

// The next signature and decryption after each loss succeed, and no try is spent. Only
// secrets that may not be kept are asked for again.
func TestRecoversBetweenOperations(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			sw := tpmtest.Start(t, tpmtest.Tutorial)
			tpm := openName(t, sw.Socket)
			plain, given := loadFixture(t, tpm, "maclef"), loadFixture(t, tpm, "wrapped-auth")
			k, unkept := askedKey(t, tpm)
			kept := &asker{answer: motdepasse()}
			keeper := loadWith(t, tpm, "auth", tutorialSRK(), kept.secret().Keep())
			keys := []*tpmkey.Key{plain, given, k, keeper}
			for _, k := range keys {
				mustSign(t, k)
			}
			for round := range 2 {
				lose(t, sw)
				for i, k := range keys {
					if err := signs(k, round, i); err != nil {
						t.Errorf("key %d: %v", i, err)
					}
				}
				lose(t, sw)
				for i, file := range []string{"maclef", "wrapped-auth", "auth", "auth"} {
					checkDecrypts(t, keys[i], file+".bound", tpmtest.Fixture(t, "tpm12-tutorial/bonjour.txt"))
				}
			}
			want := int32(5) // once at first, and after each loss
			if strings.Contains(name, "flushed") {
				want = 1 // between turns nothing is there to be flushed
			}
			if n := unkept.n.Load(); n != want {
				t.Errorf("asked %d times, not %d", n, want)
			}
			if n := kept.n.Load(); n != 1 {
				t.Errorf("asked %d times for a secret that may be kept", n)
			}
			if n := tries(t, tpm); n != 0 {
				t.Errorf("%d tries spent", n)
			}
		})
	}
}

// A TPM that is killed and started while many sign: every signature is right, and
// none fails.
func TestRecoversDuringOperations(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	tpm := openName(t, sw.Socket)
	var keys []*tpmkey.Key
	for _, name := range []string{"maclef", "auth", "wrapped-auth", "rsa1024"} {
		keys = append(keys, loadFixture(t, tpm, name))
	}
	for _, k := range keys {
		mustSign(t, k) // proves the secret: only then may a lost command be repeated
	}
	var stop atomic.Bool
	var signed atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load(); n++ {
				if err := signs(keys[i%len(keys)], i, n); err != nil {
					t.Error(err)
					return
				}
				signed.Add(1)
			}
		}()
	}
	for range 8 {
		before := signed.Load()
		sw.Restart()
		eventually(t, "it goes on", func() bool { return signed.Load() > before+8 || t.Failed() })
	}
	stop.Store(true)
	wg.Wait()
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries spent", n)
	}
}

// The software TPM that Open started is started anew when it was killed.
func TestRecoversEmulator(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	name, dir := emulatorOfTutorial(t)
	tpm := openName(t, name)
	k, a := askedKey(t, tpm)
	for i := range 3 {
		killIn(t, dir, "swtpm")
		mustSign(t, k, i)
	}
	if n := a.n.Load(); n != 4 {
		t.Errorf("asked %d times, not once for each swtpm", n)
	}
}

// emulatorOfTutorial is the name of an emulator with the tutorial's state.
func emulatorOfTutorial(t *testing.T) (name, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "swtpm ends", func() bool { return len(programsIn(dir)) == 0 })
		os.RemoveAll(dir)
	})
	if err := os.WriteFile(filepath.Join(dir, "tpm-00.permall"), tpmtest.Fixture(t, "tpm12-tutorial/tpm-00.permall"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "emulator:" + dir, dir
}

// programsIn are the processes at work in a directory, by their number.
func programsIn(dir string) map[int]string {
	found := map[int]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			found[pid] = strings.TrimSpace(string(comm))
		}
	}
	return found
}

// killIn kills a program at work in a directory of this test's, and waits for its end.
func killIn(t *testing.T, dir, program string) {
	t.Helper()
	for pid, name := range programsIn(dir) {
		if name == program {
			syscall.Kill(pid, syscall.SIGKILL)
			eventually(t, program+" ends", func() bool { return programsIn(dir)[pid] == "" })
			return
		}
	}
	t.Fatalf("no %s at work in %s", program, dir)
}

// A session whose nonces are out of step is replaced. A secret that was right before
// is tried once more, though the TPM counts it.
func TestRecoversASessionOutOfStep(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for _, name := range []string{"given", "asked"} {
		tpm, tap := openTapped(t)
		a := &asker{answer: motdepasse()}
		secret := motdepasse()
		if name == "asked" {
			secret = a.secret()
		}
		k := loadWith(t, tpm, "auth", tutorialSRK(), secret)
		mustSign(t, k)
		bend := true
		tap.Before = func(_ int, cmd []byte) ([]byte, error) {
			if binary.BigEndian.Uint32(cmd[6:]) == ordSign && bend {
				bend = false
				cmd[len(cmd)-1] ^= 1 // an HMAC as by another nonceEven
			}
			return cmd, nil
		}
		if err := signs(k, "bent"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		mustSign(t, k)
		if n := tries(t, tpm); n != 1 {
			t.Errorf("%s: the TPM has counted %d", name, n)
		}
		if n := a.n.Load(); name == "asked" && n != 2 {
			t.Errorf("asked %d times", n)
		}
	}
}

// A changed nonce in a reply makes its HMAC wrong: no such reply is believed, and
// the operations after it work.
func TestChangedNonceInAReply(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, tap := openTapped(t)
	k := loadFixture(t, tpm, "auth")
	mustSign(t, k)
	change := true
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if binary.BigEndian.Uint32(cmd[6:]) == ordSign && change {
			change = false
			rsp[len(rsp)-41] ^= 1 // nonceEven, continueAuthSession(1), resAuth(20) end it
		}
		return rsp, err
	}
	if err := signs(k, "changed"); err != nil {
		t.Log("the operation itself:", err)
	}
	for i := range 3 {
		mustSign(t, k, i)
	}
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries spent", n)
	}
}
