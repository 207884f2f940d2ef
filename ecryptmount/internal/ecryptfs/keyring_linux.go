package ecryptfs

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithTokens runs mount while tokens are where mount(2) looks for them. They
// stand in the keyring of one thread, which nobody else can read, and are taken
// out of it afterwards: a mounted file system holds on to its tokens itself, so
// none is left behind even if the process is killed.
func WithTokens(tokens []*Token, mount func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer unix.KeyctlInt(unix.KEYCTL_CLEAR, unix.KEY_SPEC_THREAD_KEYRING, 0, 0, 0)
	for _, t := range tokens {
		if _, err := unix.AddKey("user", string(t.Signature), t.payload, unix.KEY_SPEC_THREAD_KEYRING); err != nil {
			return fmt.Errorf("put the token %s into the keyring: %w", t.Signature, err)
		}
	}
	return mount()
}
