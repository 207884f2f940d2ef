//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// endingSignals are what a person or a system ends a command with.
var endingSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// surviveBrokenPipes makes writing to a pipe that nobody reads an error, so that
// what was loaded into a TPM is freed. SIGPIPE is taken, not ignored: children
// would inherit that.
func surviveBrokenPipes() {
	if !signal.Ignored(syscall.SIGPIPE) { // else it is an error already
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
}

// raise sends the process a signal that OnSignal took away from it.
func raise(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		_ = syscall.Kill(os.Getpid(), s)
	}
}
