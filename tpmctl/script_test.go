package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/scripttest"
)

// TestMain makes the test binary the command tpmctl, too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tpmctl": main})
}

func TestScript(t *testing.T) { scripttest.Run(t, nil, nil, nil) }
