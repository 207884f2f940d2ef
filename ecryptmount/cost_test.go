package main

import (
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// A new file costs the TPM no command, and an opened file costs it one, also with a key that
// has a secret.
func TestCost(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	const files = 5
	for _, key := range []string{"tpm12-tutorial/maclef", "tpm12-tutorial/oaep", "tpm12-tutorial/auth", "tpm2/pv-rsa.pem", "tpm2/e2-rsa-auth.pem"} {
		t.Run(key, func(t *testing.T) {
			swtpm := startFor(t, key)
			c := newTestChip(t, swtpm, key)
			dev, err := transport.Open(swtpm.Socket, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			tap := tpmtest.NewTap(dev)
			if c.tpm, err = tpmkey.OpenTransport(t.Context(), tap); err != nil {
				t.Fatal(err)
			}
			if c.key, err = c.o.keys.Load(c.tpm, c.file); err != nil {
				t.Fatal(err)
			}
			if err := c.roundTrip(); err != nil { // as a mount does
				t.Fatal(err)
			}
			tap.Reset()
			wrapped, err := c.wrap([]byte("35 bytes, as the key of a file has."))
			if n := len(tap.Exchanges()); err != nil || n != 0 {
				t.Fatalf("wrapping: %d commands, %v", n, err)
			}
			for range files {
				if _, err := c.unwrap(wrapped); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(tap.Exchanges()); n != files {
				t.Errorf("unwrapping %d times: %d commands, want %d", files, n, files)
			}
		})
	}
}
