package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpmtest"
)

// TestMain makes the test binary the command keygen, too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keygen": main})
}

// TestScript has tpmctl built, which scripts check keys with.
func TestScript(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "maclef/tpmctl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", build, err, out)
	}
	testscript.Run(t, params(bin))
}

// params are those of every script. $BIN is the directory of keygen, bin that of
// other commands.
func params(bin string) testscript.Params {
	return testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"tpm":     scriptTPM,
			"wire":    scriptWire,
			"fixture": scriptFixture,
			"fails":   scriptFails,
			"tries":   scriptTries,
		},
		Condition: func(name string) (bool, error) {
			if name != "tpm" { // this machine has one
				return false, errors.New("unknown condition")
			}
			found, err := filepath.Glob("/dev/tpm*")
			return len(found) > 0, err
		},
		Setup: func(env *testscript.Env) error {
			env.Values[keyTB] = env.T().(testing.TB)
			env.Values[keyWire] = new(*wire)
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("BIN", filepath.SplitList(os.Getenv("PATH"))[0])
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			return nil
		},
	}
}

// What a script holds on to.
type scriptKey int

const (
	keyTB scriptKey = iota
	keyWire
)

var states = map[string]tpmtest.State{
	"tutorial": tpmtest.Tutorial, "wellknown": tpmtest.WellKnown, "fresh": tpmtest.Fresh,
	"disabled": tpmtest.Disabled, "deactivated": tpmtest.Deactivated, "tpm20": tpmtest.TPM20,
}

// scriptTPM is "tpm STATE": start a software TPM, which $TPMKEY_TPM names from
// then on; $SOCKET is the path of its socket.
func scriptTPM(ts *testscript.TestScript, neg bool, args []string) {
	state, ok := states[strings.Join(args, " ")]
	if neg || !ok {
		ts.Fatalf("usage: tpm STATE")
	}
	s := tpmtest.Start(ts.Value(keyTB).(testing.TB), state)
	ts.Setenv("TPMKEY_TPM", s.Socket)
	ts.Setenv("SOCKET", strings.TrimPrefix(s.Socket, "unix:"))
}

// scriptFixture is "fixture FILE...": copy recorded files here.
func scriptFixture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fixture FILE...")
	}
	tb := ts.Value(keyTB).(testing.TB)
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(name)), tpmtest.Fixture(tb, name), 0o600))
	}
}

var errorLine = regexp.MustCompile(`(?m)^[a-z]+: error: \S`)

// scriptFails is "fails STATUS PROGRAM ARG...": run a command of the project
// that must fail with this exit status, say why, print nothing on standard
// output, and leave no temporary file here.
func scriptFails(ts *testscript.TestScript, neg bool, args []string) {
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

var triesText = regexp.MustCompile(`\((\d+) of 5 tries used\)`)

// scriptTries is "tries N": so many wrong secrets has the TPM counted.
func scriptTries(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tries N")
	}
	ts.Check(ts.Exec("tpmctl", "status"))
	found := triesText.FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil || found[1] != args[0] {
		ts.Fatalf("tpmctl status says %q, want %s tries", found, args[0])
	}
}
