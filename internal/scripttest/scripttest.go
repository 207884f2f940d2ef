// Package scripttest gives the commands' test scripts what they have in common:
// software TPMs, recorded files, and ways to fail. The words it adds to a script
// are described at their functions.
package scripttest

import (
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A Word is a command of a script.
type Word = func(ts *testscript.TestScript, neg bool, args []string)

// Run runs testdata/script. others are commands of this project that the scripts
// use besides the one under test; words are those of these scripts only. $BIN is
// the directory of the command under test.
func Run(t *testing.T, others []string, words map[string]Word, setup func(*testscript.Env) error) {
	bin := t.TempDir()
	for _, other := range others {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "maclef/"+other)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", build, err, out)
		}
	}
	all := map[string]Word{
		"tpm": wordTPM, "wire": wordWire, "hold": wordHold, "reads": wordReads, "signal": wordSignal, "fixture": wordFixture,
		"fails": wordFails, "tries": wordTries, "loaded": wordLoaded, "noleaks": wordNoLeaks, "extend": wordExtend, "restart": wordRestart,
	}
	maps.Copy(all, words)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                all,
		Condition:           condition,
		Setup: func(env *testscript.Env) error {
			env.Values[keyTB] = env.T().(testing.TB)
			env.Values[keyWire] = new(*wire)
			env.Values[keyHold] = new(net.Conn)
			env.Values[keySWTPM] = new(*tpmtest.SWTPM)
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("BIN", filepath.SplitList(os.Getenv("PATH"))[0])
			// Else the race detector has each command sleep for a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			if setup == nil {
				return nil
			}
			return setup(env)
		},
	})
}

// condition is [tpm]: this machine has a TPM.
func condition(name string) (bool, error) {
	if name != "tpm" {
		return false, errors.New("unknown condition")
	}
	found, err := filepath.Glob("/dev/tpm*")
	return len(found) > 0, err
}

// What a script holds on to.
type scriptKey int

const (
	keyTB scriptKey = iota
	keyWire
	keyHold
	keySWTPM
)

// TB is the test that a script runs in.
func TB(value func(key any) any) testing.TB { return value(keyTB).(testing.TB) }

var states = map[string]tpmtest.State{
	"tutorial": tpmtest.Tutorial, "wellknown": tpmtest.WellKnown, "fresh": tpmtest.Fresh,
	"disabled": tpmtest.Disabled, "deactivated": tpmtest.Deactivated,
	"tpm20": tpmtest.TPM20, "keys20": tpmtest.Keys20, "onetry20": tpmtest.OneTry20, "lockedout20": tpmtest.LockedOut20,
	"owned20": tpmtest.Owned20, "owneroff20": tpmtest.OwnerOff20, "failing20": tpmtest.Failing20,
}

// wordTPM is "tpm STATE": start a software TPM, which $TPMKEY_TPM names from
// then on; $SOCKET is the path of its socket.
func wordTPM(ts *testscript.TestScript, neg bool, args []string) {
	state, ok := states[strings.Join(args, " ")]
	if neg || !ok {
		ts.Fatalf("usage: tpm STATE")
	}
	s := tpmtest.Start(TB(ts.Value), state)
	*ts.Value(keySWTPM).(**tpmtest.SWTPM) = s
	ts.Setenv("TPMKEY_TPM", s.Socket)
	ts.Setenv("SOCKET", strings.TrimPrefix(s.Socket, "unix:"))
}

// swtpmOf is the software TPM that "tpm" started last.
func swtpmOf(ts *testscript.TestScript) *tpmtest.SWTPM {
	s := *ts.Value(keySWTPM).(**tpmtest.SWTPM)
	if s == nil {
		ts.Fatalf("no software TPM: begin with tpm STATE")
	}
	return s
}

// wordExtend is "extend PCR TEXT": a TPM 2.0 measures a text.
func wordExtend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: extend PCR TEXT")
	}
	pcr, err := strconv.ParseUint(args[0], 10, 5)
	ts.Check(err)
	swtpmOf(ts).Send(tpmtest.PCRExtend(uint32(pcr), args[1]))
}

// wordRestart is "restart": the software TPM loses power. "restart told" tells a TPM 2.0
// before.
func wordRestart(ts *testscript.TestScript, neg bool, args []string) {
	told := len(args) == 1 && args[0] == "told"
	if neg || len(args) > 0 && !told {
		ts.Fatalf("usage: restart [told]")
	}
	if told {
		swtpmOf(ts).Shutdown()
	}
	swtpmOf(ts).Restart()
}

// wordFixture is "fixture FILE...": copy recorded files here.
func wordFixture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fixture FILE...")
	}
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(name)), tpmtest.Fixture(TB(ts.Value), name), 0o600))
	}
}

var errorLine = regexp.MustCompile(`(?m)^[a-z]+: error: \S`)

// wordFails is "fails STATUS PROGRAM ARG...": run a command of the project that
// must fail with this exit status, say why, print nothing on standard output,
// and leave no temporary file here.
func wordFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails STATUS PROGRAM ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := "0"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = strconv.Itoa(exit.ExitCode())
	} else {
		ts.Check(err)
	}
	if status != args[0] {
		ts.Fatalf("exit status %s, want %s", status, args[0])
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("it failed, but printed %q", out)
	}
	if lines := errorLine.FindAllString(ts.ReadFile("stderr"), -1); len(lines) != 1 {
		ts.Fatalf("%d error lines on standard error, want 1", len(lines))
	}
	left, err := filepath.Glob(ts.MkAbs(".tmp-*"))
	ts.Check(err)
	if len(left) > 0 {
		ts.Fatalf("it left %v behind", left)
	}
}

// wordTries is "tries N": the TPM has counted N wrong secrets.
func wordTries(ts *testscript.TestScript, neg bool, args []string) {
	if n := strconv.Itoa(status(ts).Lockout.Tries); neg || len(args) != 1 || n != args[0] {
		ts.Fatalf("the TPM has counted %s tries, want %v", n, args)
	}
}

func status(ts *testscript.TestScript) *tpmkey.Status {
	tpm, err := tpmkey.Open(ts.Getenv("TPMKEY_TPM"))
	ts.Check(err)
	defer tpm.Close()
	s, err := tpm.Status()
	ts.Check(err)
	return s
}
