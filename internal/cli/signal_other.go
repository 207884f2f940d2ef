//go:build !unix

package cli

import "os"

// raise ends the process as a signal that OnSignal took away would have.
func raise(os.Signal) { os.Exit(130) }
