package interop

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// commands is the folder of this project's own commands, built from this tree.
var commands string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "-C", "..", "build", "-buildvcs=false", "-o", dir,
		"./keygen", "./certgen", "./tlsdemo", "./tpmctl")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the commands:", err)
		return 1
	}
	commands = dir
	return m.Run()
}
