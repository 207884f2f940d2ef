package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpmtest"
)

// TestMain makes the test binary the command keygen, too.
func TestMain(m *testing.M) {
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){"keygen": main})
}

func TestScript(t *testing.T) { tpmtest.RunScripts(t, []string{"tpmctl"}, nil, nil) }
