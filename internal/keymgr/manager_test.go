package keymgr

import (
	"context"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/chip20"
	"maclef/internal/transport"
)

// openSocket opens a software TPM of either generation.
func openSocket(t *testing.T, name string) *Manager {
	t.Helper()
	dev, err := transport.Open(name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	release, err := dev.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var c chip.Chip
	if c, err = chip12.Open(dev, time.Second); err != nil {
		c, err = chip20.Open(dev, time.Second, nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := New(dev, c, nil)
	t.Cleanup(func() { m.Close() })
	return m
}

// loadKey loads a key under an SRK with the secret of no bytes.
func loadKey(t *testing.T, m *Manager, file blob.Key, secret Secret) *Key {
	t.Helper()
	ops, err := m.chip.Use(file)
	if err != nil {
		t.Fatal(err)
	}
	k, err := m.NewKey(file, ops, Password(nil), secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Do(&Work{Key: k}); err != nil {
		t.Fatal(err)
	}
	return k
}
