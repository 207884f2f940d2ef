// Package tpmtest has what tests need to speak to a TPM: recorded files of other
// programs ([Fixture]), private software TPMs ([Start]), the proxy in front of one
// ([Proxy]), a transport that watches and falsifies what goes over it ([Tap]), and the
// words of the commands' test scripts ([RunScripts]).
//
// It imports nothing of this project but frame, so that tests inside any package can
// use it. No program imports it.
package tpmtest

import (
	"embed"
	"os"
	"path/filepath"
	"testing"
)

// testdata holds one folder for each TPM: its state and the files made with it.
//
//go:embed testdata
var testdata embed.FS

// Fixture returns a recorded file, by its path under testdata:
// "tpm12-tutorial/maclef". The caller owns the slice.
func Fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FixturePath returns the path of a private copy of a recorded file, under its
// own name in a directory of the test's.
func FixturePath(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(path, Fixture(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
