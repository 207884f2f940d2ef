//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// endingSignals are what a person or a system ends a command with.
var endingSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// surviveBrokenPipes has nothing to do: a broken pipe is an error here.
func surviveBrokenPipes() {}

// raise ends the process as a signal that OnSignal took away would have.
func raise(os.Signal) { os.Exit(130) }
