package ecryptfs

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithTokens runs mount while the tokens are in the thread keyring, where mount(2) finds them and
// nobody else can read them. A mounted file system keeps its tokens itself, so they are removed
// afterwards. None is left behind if the process is killed.
func WithTokens(tokens []*Token, mount func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer unix.KeyctlInt(unix.KEYCTL_CLEAR, unix.KEY_SPEC_THREAD_KEYRING, 0, 0, 0)
	for _, t := range tokens {
		if _, err := unix.AddKey("user", string(t.Signature), t.payload, unix.KEY_SPEC_THREAD_KEYRING); err != nil {
			return fmt.Errorf("add the token %s to the keyring: %w", t.Signature, err)
		}
	}
	return mount()
}
