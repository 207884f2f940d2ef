package tpmtest

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/rogpeppe/go-internal/testscript"
)

// A ScriptCommand is a command of a test script.
type ScriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// RunScripts runs testdata/script with commands for software TPMs, recorded files and ways
// to fail. Their functions describe them. others are commands of this project that the
// scripts use besides the one under test. own are commands of these scripts only. $BIN is
// the directory of the command under test.
func RunScripts(t *testing.T, others []string, own map[string]ScriptCommand, setup func(*testscript.Env) error) {
	bin := t.TempDir()
	for _, other := range others {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "maclef/"+other)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", build, err, out)
		}
	}
	all := map[string]ScriptCommand{
		"tpm": cmdTPM, "wire": cmdWire, "hold": cmdHold, "reads": cmdReads, "signal": cmdSignal, "fixture": cmdFixture,
		"fails": cmdFails, "tries": cmdTries, "loaded": cmdLoaded, "noleaks": cmdNoLeaks, "extend": cmdExtend, "restart": cmdRestart,
	}
	maps.Copy(all, own)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                all,
		Condition:           scriptCondition,
		Setup: func(env *testscript.Env) error {
			env.Values[keyTB] = env.T().(testing.TB)
			env.Values[keyWire] = new(*scriptWire)
			env.Values[keyHold] = new(transport.TPMCloser)
			env.Values[keySWTPM] = new(*SWTPM)
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("BIN", filepath.SplitList(os.Getenv("PATH"))[0])
			// Without this, the race detector lets each command sleep for a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			if setup == nil {
				return nil
			}
			return setup(env)
		},
	})
}

// scriptCondition implements [tpm]: this machine has a TPM; and [implicit-rejection]: see
// [ImplicitRejection].
func scriptCondition(name string) (bool, error) {
	switch name {
	case "tpm":
		found, err := filepath.Glob("/dev/tpm*")
		return len(found) > 0, err
	case "implicit-rejection":
		return ImplicitRejection(), nil
	}
	return false, errors.New("unknown condition")
}

// A scriptKey is the key of a value that a script keeps.
type scriptKey int

const (
	keyTB scriptKey = iota
	keyWire
	keyHold
	keySWTPM
)

// ScriptTB returns the test that runs a script.
func ScriptTB(value func(key any) any) testing.TB { return value(keyTB).(testing.TB) }

var scriptStates = map[string]State{
	"tutorial": Tutorial, "wellknown": WellKnown, "fresh": Fresh,
	"disabled": Disabled, "deactivated": Deactivated,
	"tpm20": TPM20, "keys20": Keys20, "onetry20": OneTry20, "lockedout20": LockedOut20,
	"owned20": Owned20, "movable20": Movable20, "owneroff20": OwnerOff20, "failing20": Failing20,
}

// cmdTPM is "tpm STATE": it starts a software TPM. $TPMKEY_TPM is its name, and $SOCKET the
// path of its socket.
func cmdTPM(ts *testscript.TestScript, neg bool, args []string) {
	state, ok := scriptStates[strings.Join(args, " ")]
	if neg || !ok {
		ts.Fatalf("usage: tpm STATE")
	}
	s := Start(ScriptTB(ts.Value), state)
	*ts.Value(keySWTPM).(**SWTPM) = s
	ts.Setenv("TPMKEY_TPM", s.Socket)
	ts.Setenv("SOCKET", strings.TrimPrefix(s.Socket, "unix:"))
}

// swtpmOf returns the software TPM that "tpm" started last.
func swtpmOf(ts *testscript.TestScript) *SWTPM {
	s := *ts.Value(keySWTPM).(**SWTPM)
	if s == nil {
		ts.Fatalf("no software TPM: begin with tpm STATE")
	}
	return s
}

// cmdExtend is "extend PCR TEXT": it extends a PCR with the digest of a text.
func cmdExtend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: extend PCR TEXT")
	}
	pcr, err := strconv.ParseUint(args[0], 10, 5)
	ts.Check(err)
	extend := PCRExtend12
	if swtpmOf(ts).Is20() {
		extend = PCRExtend
	}
	swtpmOf(ts).Send(extend(uint32(pcr), args[1]))
}

// cmdRestart is "restart": the software TPM loses power. "restart told" sends TPM2_Shutdown
// before.
func cmdRestart(ts *testscript.TestScript, neg bool, args []string) {
	told := len(args) == 1 && args[0] == "told"
	if neg || len(args) > 0 && !told {
		ts.Fatalf("usage: restart [told]")
	}
	if told {
		swtpmOf(ts).Shutdown()
	}
	swtpmOf(ts).Restart()
}

// cmdFixture is "fixture FILE...": it copies recorded files to the current directory.
func cmdFixture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fixture FILE...")
	}
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(name)), Fixture(ScriptTB(ts.Value), name), 0o600))
	}
}

var errorLine = regexp.MustCompile(`(?m)^[a-z]+: error: \S`)

// cmdFails is "fails STATUS PROGRAM ARG...": it runs a command of the project, which must
// fail with this exit status, print one error, print nothing on standard output, and leave
// no temporary file.
func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
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
