package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"maclef/internal/tpmtest"
)

// hangUp sends SIGHUP and returns what the log then has.
func (p *process) hangUp(want string) {
	p.t.Helper()
	n := strings.Count(p.log.String(), want)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
	if !soon(func() bool { return strings.Count(p.log.String(), want) > n }) {
		p.t.Fatalf("%q does not come in\n%s", want, p.log)
	}
}

// A person is asked for a secret at the start, and not again.
func TestReloadAsksNobody(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	both(t, "auth", []byte("motdepasse"), testReloadAsksNobody)
}

func testReloadAsksNobody(t *testing.T, rig *rig) {
	asked := answerPrompts(t)
	e := rig.exchangeable([]byte("motdepasse"), "auth", "maclef", "other auth")
	p := rig.start()
	p.get()
	p.hangUp("SIGHUP: nothing has changed")
	for _, name := range []string{"maclef", "auth", "other auth"} {
		e.put(name, name)
		p.hangUp("SIGHUP: new connections use the changed ")
		p.get()
	}
	if times := asked(); times != 1 {
		t.Errorf("asked %d times", times)
	}
	p.stop()
	e.put("maclef", "maclef")
	p = rig.start()
	e.put("auth", "auth")
	for range 2 {
		p.hangUp(": -key-pass: a secret is needed, and asked for at the start only (hint: start tlsdemo again, or ")
	}
	p.get()
	if times := asked(); times != 1 {
		t.Errorf("asked %d times", times)
	}
	p.stop()
	rig.wantNothingInTPM()
}

// A secret in a file is read again with another key; a wrong one costs one try.
func TestReloadReadsSecrets(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	both(t, "auth", []byte("motdepasse"), testReloadReadsSecrets)
}

func testReloadReadsSecrets(t *testing.T, rig *rig) {
	e := rig.exchangeable([]byte("motdepasse"), "auth", "other auth")
	secret := filepath.Join(t.TempDir(), "secret")
	e.write(secret, []byte("motdepasse\n"))
	p := rig.start("-key-pass", "file:"+secret)
	before := rig.status().Lockout.Tries
	e.write(secret, []byte("faux\n"))
	e.put("other auth", "other auth")
	p.hangUp("(hint: the secrets were those of the start, or of file:PATH as it is now; start tlsdemo again, or ")
	mention(t, p.log.String(), "SIGHUP: what was in use stays in use: try the key "+rig.key+": ", "wrong key secret")
	p.get()
	p.hangUp("wrong key secret: the same one as before, it was not tried again (hint: ")
	if spent := rig.status().Lockout.Tries - before; spent != 1 {
		t.Errorf("%d tries spent", spent)
	}
	e.write(secret, []byte("motdepasse\n"))
	p.hangUp("SIGHUP: new connections use the changed ")
	p.get()
	if spent := rig.status().Lockout.Tries - before; spent != 1 {
		t.Errorf("%d tries spent", spent)
	}
	if log := p.log.String(); strings.Contains(log, "faux") || strings.Contains(log, "motdepasse") {
		t.Error(log)
	}
}

// Files from standard input stay as they are.
func TestReloadWithStandardInput(t *testing.T) {
	e := newRig(t, "maclef", nil).exchangeable(nil, "maclef", "rsa1024")
	file, err := os.Open(e.key)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := e.startFrom(file, "-key", "-")
	p.hangUp("SIGHUP: nothing has changed")
	e.put("rsa1024", "rsa1024")
	p.hangUp(e.cert + ": certificate: the certificate is not one of this key")
	p.get()
}

// A key that the TPM keeps is read again, too. Nothing tells whether it has a secret: that is found
// out without asking.
func TestReloadOfHandle(t *testing.T) {
	r := newRig(t, "maclef", nil)
	r.key = r.keep(0x81000042, "one")
	r.certify([]byte{})
	p := r.start()
	p.hangUp("SIGHUP: nothing has changed")
	p.get()
	r.keep(0x81000042, "another")
	served := r.cert
	r.certify([]byte{})
	if err := os.Rename(r.cert, served); err != nil {
		t.Fatal(err)
	}
	p.hangUp("SIGHUP: new connections use the changed " + r.key + ", " + served)
	p.get()
}

// nohup has SIGHUP ignored: then a terminal that closes is not the end. Otherwise it is.
func TestTerminalCloses(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	for name, row := range map[string]struct{ before, want string }{
		"terminal": {"", "stopping after 0 handshakes"},
		"nohup":    {`trap "" HUP; `, "SIGHUP: nothing has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "maclef", nil)
			log, pid := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "pid")
			args := append([]string{os.Args[0]}, r.args("-accept", "localhost:0")...)
			terminal := exec.Command("script", "-qfc", row.before+"echo $$ >'"+pid+"'; exec '"+strings.Join(args, "' '")+"' 2>'"+log+"'", "/dev/null")
			terminal.Env = append(os.Environ(), "TLSDEMO_RUN=1", "SHELL=/bin/sh")
			stdin, err := terminal.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			if err := terminal.Start(); err != nil {
				t.Fatal(err)
			}
			await := func(text string) {
				t.Helper()
				var said []byte
				if !soon(func() bool {
					said, _ = os.ReadFile(log)
					return strings.Contains(string(said), text)
				}) {
					t.Fatalf("%q does not come in\n%s", text, said)
				}
			}
			await("Ctrl-C stops")
			t.Cleanup(func() { exec.Command("sh", "-c", `kill "$(cat "$0")"`, pid).Run() })
			terminal.Process.Kill()
			terminal.Wait()
			await(row.want)
		})
	}
}
