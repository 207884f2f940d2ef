package main

import (
	"bytes"
	"crypto"
	"io"
	"strings"
	"sync"
	"testing"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// newTestChip is a chip with a recorded key, in a software TPM of the test's.
func newTestChip(t *testing.T, tpm *tpmtest.SWTPM, key string) *chip {
	t.Helper()
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/"+key))
	if err != nil {
		t.Fatal(err)
	}
	env := cli.NewEnv("ecryptmount", strings.NewReader(""), io.Discard, io.Discard)
	o, err := parse(env, []string{"-tpm", tpm.Socket, "-wait", "2s", "-srk-pass", "pass:", "-key-pass", "pass:motdepasse", "-key", key, "/secret"})
	if err != nil {
		t.Fatal(err)
	}
	c := newChip(env, o, file)
	t.Cleanup(c.close)
	return c
}

func TestChip(t *testing.T) {
	for _, key := range []string{"maclef", "oaep", "auth", "wrapped-auth"} {
		t.Run(key, func(t *testing.T) {
			c := newTestChip(t, tpmtest.Start(t, tpmtest.Tutorial), key)
			if err := c.open(); err != nil {
				t.Fatal(err)
			}
			if err := c.roundTrip(); err != nil {
				t.Error(err)
			}
			if c.took() <= 0 {
				t.Error("it took no time")
			}
		})
	}
}

func TestAbsoluteTPM(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, want := range map[string]string{
		"unix:sock": "unix:" + dir + "/sock", "unix:/run/sock": "unix:/run/sock", "tcp:localhost:1": "tcp:localhost:1",
		"emulator:dir": "emulator:dir", "emulator": "emulator", "": "", "unix:": "unix:", "/dev/tpm0": "/dev/tpm0", "./tpm0": dir + "/tpm0",
	} {
		if got := absoluteTPM(name); got != want {
			t.Errorf("%s became %s, want %s", name, got, want)
		}
	}
}

// Another program uses the TPM while a directory is mounted.
func TestChipShares(t *testing.T) {
	swtpm := tpmtest.Start(t, tpmtest.Tutorial)
	c := newTestChip(t, swtpm, "auth")
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	other, err := tpmkey.Open(swtpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	key, err := other.LoadFile(tpmtest.FixturePath(t, "tpm12-tutorial/maclef"), &tpmkey.LoadOptions{SRK: tpmkey.Password(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if keys, sessions, err := other.FlushLeftovers(); keys+sessions > 0 || err != nil {
		t.Errorf("flushed %d keys and %d sessions of a living program, %v", keys, sessions, err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(2)
		go func() {
			defer all.Done()
			if err := c.roundTrip(); err != nil {
				t.Error(err)
			}
		}()
		go func() {
			defer all.Done()
			if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
}

// A TPM that restarts loses its keys: the next file is opened all the same.
func TestChipRestarts(t *testing.T) {
	tpm := tpmtest.Start(t, tpmtest.Tutorial)
	c := newTestChip(t, tpm, "auth")
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	message := []byte("bonjour")
	wrapped, err := c.wrap(message)
	if err != nil {
		t.Fatal(err)
	}
	tpm.Restart()
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			if got, err := c.unwrap(wrapped); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%q, %v", got, err)
			}
		}()
	}
	all.Wait()
	tpm.Kill()
	if _, err := c.unwrap(wrapped); err == nil {
		t.Error("it unwraps without a TPM")
	}
	tpm.Restart()
	if got, err := c.unwrap(wrapped); err != nil || !bytes.Equal(got, message) {
		t.Errorf("after the TPM came back: %q, %v", got, err)
	}
	c.close()
	if _, err := c.unwrap(wrapped); err == nil {
		t.Error("it unwraps after it was closed")
	}
}
