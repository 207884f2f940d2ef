//go:build unix

package cli

import (
	"os"
	"syscall"
)

// raise sends the process a signal that OnSignal took away from it.
func raise(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		_ = syscall.Kill(os.Getpid(), s)
	}
}
