//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
	"time"
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

// raise sends the process a signal that OnSignal took away from it, and gives it
// time to end the process: another thread may be the one that receives it.
func raise(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok && syscall.Kill(os.Getpid(), s) == nil {
		time.Sleep(raiseTime)
	}
}

// raiseTime is also how long a command that watches for the signal elsewhere is
// held up.
const raiseTime = 100 * time.Millisecond
