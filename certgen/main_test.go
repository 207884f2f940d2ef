package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/blob"
	"maclef/internal/tpmtest"
)

func TestMain(m *testing.M) {
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){"certgen": main, "restrict": func() { os.Exit(restrict(os.Args[1:])) }})
}

// TestScripts runs testdata/script. The recorded key files stand in each one's
// directory, with bind (a key that cannot sign). Until the command tpm starts a
// TPM, $TPMKEY_TPM names one that does not exist: what works before has touched
// none.
func TestScripts(t *testing.T) {
	tpmtest.RunScripts(t, []string{"keygen"}, map[string]tpmtest.ScriptCommand{"facts": cmdFacts, "differ": cmdDiffer}, setup)
}

func setup(env *testscript.Env) error {
	t := env.T().(testing.TB)
	for _, name := range []string{"maclef", "oaep", "sha1", "oaep-sha1", "rsa1024", "rsa512", "auth", "wrapped", "wrapped-auth", "wrapped.pem"} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), tpmtest.Fixture(t, "tpm12-tutorial/"+name), 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(env.WorkDir, "stpm.key"), tpmtest.Fixture(t, "tpm12-wellknown/stpm.key"), 0o600); err != nil {
		return err
	}
	bind, err := bindKey(tpmtest.Fixture(t, "tpm12-tutorial/maclef"))
	if err != nil {
		return err
	}
	env.Vars = append(env.Vars, "TPMKEY_TPM=unix:"+filepath.Join(env.WorkDir, "no-tpm"), "SRK=pass:", "KEY=pass:motdepasse")
	return os.WriteFile(filepath.Join(env.WorkDir, "bind"), bind, 0o600)
}

// bindKey makes a key that only decrypts of one that does both.
func bindKey(legacy []byte) ([]byte, error) {
	key, err := blob.Parse(legacy)
	if err != nil {
		return nil, err
	}
	k := key.(*blob.TPMKey)
	k.Usage, k.SigScheme = blob.KeyBind, blob.SSNone
	return key.Marshal(blob.PEM)
}

// cmdDiffer is "differ FILE FILE": the two are certificates whose serial
// numbers differ.
func cmdDiffer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: differ FILE FILE")
	}
	a, b := parseCertificate(ts, args[0]), parseCertificate(ts, args[1])
	if a.SerialNumber.Cmp(b.SerialNumber) == 0 {
		ts.Fatalf("both have serial number %v", a.SerialNumber)
	}
}

// cmdFacts is "facts CERTIFICATE KEY": what every certificate of ours has.
func cmdFacts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: facts CERTIFICATE KEY")
	}
	cert := parseCertificate(ts, args[0])
	key, err := blob.Parse([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	if err := checkFacts(cert, key); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if info.Mode().Perm()&^0o644 != 0 {
		ts.Fatalf("%s has mode %v", args[0], info.Mode())
	}
}
