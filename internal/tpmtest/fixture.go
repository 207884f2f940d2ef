// Package tpmtest has helpers for tests that use a TPM: recorded files of other programs
// ([Fixture]), software TPMs for one test ([Start]), a proxy before one ([Proxy]), a
// transport that records and changes commands and responses ([Tap]), and commands for test
// scripts ([RunScripts]).
//
// It imports only package frame of this project, so that tests in every package can use it.
// No program imports it.
package tpmtest

import (
	"embed"
	"os"
	"path/filepath"
	"testing"
)

// testdata has one folder for each TPM: its state, and the files that were made with it.
//
//go:embed testdata
var testdata embed.FS

// Fixture returns a recorded file by its path under testdata, such as
// "tpm12-tutorial/maclef". The caller owns the slice.
func Fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FixturePath returns the path of a copy of a recorded file. The copy has the same name and
// is in a directory of this test.
func FixturePath(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(path, Fixture(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
