package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpmtest"
)

// TestMain makes the test binary the command ecryptmount, too.
func TestMain(m *testing.M) {
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){"ecryptmount": main})
}

// Nothing here mounts anything, even for root on a kernel with eCryptfs: the
// scripts end at what is refused before. The rest is in the virtual machine's
// scenarios.
func TestScript(t *testing.T) {
	t.Parallel()
	tpmtest.RunScripts(t, []string{"tpmctl"}, nil, nil)
}
