package main

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// states are the software TPMs that own the recorded keys of a folder.
var states = map[string]tpmtest.State{"tpm12-tutorial": tpmtest.Tutorial, "tpm2": tpmtest.Keys20}

// startFor starts the TPM that a recorded key belongs to.
func startFor(t *testing.T, key string) *tpmtest.SWTPM {
	t.Helper()
	return tpmtest.Start(t, states[filepath.Dir(key)])
}

// newTestChip is a chip with a recorded key, in a software TPM of the test's.
func newTestChip(t *testing.T, tpm *tpmtest.SWTPM, key string) *chip {
	t.Helper()
	return newTestChipWith(t, tpm, key, "motdepasse")
}

func newTestChipWith(t *testing.T, tpm *tpmtest.SWTPM, key, secret string) *chip {
	t.Helper()
	file, err := blob.Parse(tpmtest.Fixture(t, key))
	if err != nil {
		t.Fatal(err)
	}
	env := cli.NewEnv("ecryptmount", strings.NewReader(""), io.Discard, io.Discard)
	args := []string{"-tpm", tpm.Socket, "-wait", "2s", "-srk-pass", "pass:", "-key", key}
	if file.NeedsSecret() { // a TPM 2.0 would take it for the secret of others, too
		args = append(args, "-key-pass", "pass:"+secret)
	}
	o, err := parse(env, append(args, "/secret"))
	if err != nil {
		t.Fatal(err)
	}
	c := newChip(env, o, file)
	t.Cleanup(c.close)
	return c
}

func TestChip(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"tpm12-tutorial/maclef", "tpm12-tutorial/oaep", "tpm12-tutorial/auth", "tpm12-tutorial/wrapped-auth",
		"tpm2/pv-rsa.pem", "tpm2/e2-rsa-81000001.pem", "tpm2/e2-import-rsa.pem", "tpm2/e2-rsa-auth.pem", "tpm2/e2-rsa-pcr16.pem",
	} {
		t.Run(key, func(t *testing.T) {
			c := newTestChip(t, startFor(t, key), key)
			if err := c.open(); err != nil {
				t.Fatal(err)
			}
			if err := c.roundTrip(); err != nil {
				t.Error(err)
			}
			if c.slowestUnwrap() <= 0 {
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
	t.Parallel()
	t.Run("1.2", func(t *testing.T) { testChipShares(t, "tpm12-tutorial/auth", "tpm12-tutorial/maclef") })
	t.Run("2.0", func(t *testing.T) { testChipShares(t, "tpm2/e2-rsa-auth.pem", "tpm2/e2-rsa.pem") })
}

func testChipShares(t *testing.T, mine, others string) {
	swtpm := startFor(t, mine)
	c := newTestChip(t, swtpm, mine)
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	other, err := tpmkey.Open(t.Context(), swtpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	key, err := other.LoadFile(t.Context(), tpmtest.FixturePath(t, others), &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)})
	if err != nil {
		t.Fatal(err)
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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	t.Run("1.2", func(t *testing.T) { testChipRestarts(t, "tpm12-tutorial/auth") })
	t.Run("2.0", func(t *testing.T) { testChipRestarts(t, "tpm2/e2-rsa-auth.pem") })
}

func testChipRestarts(t *testing.T, key string) {
	tpm := startFor(t, key)
	c := newTestChip(t, tpm, key)
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

// A PCR changes while a directory is mounted: new files cannot be opened, and what the
// kernel's user is told in the log says why.
func TestChipPolicy(t *testing.T) {
	t.Parallel()
	tpm := startFor(t, "tpm2/e2-rsa-pcr16.pem")
	c := newTestChip(t, tpm, "tpm2/e2-rsa-pcr16.pem")
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if err := c.roundTrip(); err != nil {
		t.Fatal(err)
	}
	tpm.Send(tpmtest.PCRExtend(16, "another boot loader"))
	if err := c.roundTrip(); !errors.Is(err, tpmkey.ErrPolicy) || !strings.Contains(err.Error(), "PCR 16 differs") {
		t.Error(err)
	}
	tpm.Send(tpmtest.PCRReset(16))
	if err := c.roundTrip(); err != nil {
		t.Error(err)
	}
}

// The file of a key has only the digest of its policy: -policy says the steps, and that the key's
// secret is needed.
func TestChipPolicyGiven(t *testing.T) {
	t.Parallel()
	swtpm := tpmtest.Start(t, tpmtest.Keys20)
	policy, err := tpmkey.ParsePolicy("pcr:sha256:16+auth")
	if err != nil {
		t.Fatal(err)
	}
	tpm, err := tpmkey.Open(t.Context(), swtpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Auth: tpmkey.Password([]byte("motdepasse")), Policy: policy})
	tpm.Close()
	if err != nil {
		t.Fatal(err)
	}
	file, err := blob.ParsePair(made.(*blob.TSS2).Public, made.(*blob.TSS2).Private)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		policy, secret string
		want           error
	}{
		{"pcr:sha256:16+auth", "faux", tpmkey.ErrWrongKeySecret},
		{"auth", "motdepasse", tpmkey.ErrPolicy},
		{"pcr:sha256:16+auth", "motdepasse", nil},
	} {
		env := cli.NewEnv("ecryptmount", strings.NewReader(""), io.Discard, io.Discard)
		o, err := parse(env, []string{"-tpm", swtpm.Socket, "-policy", row.policy, "-key-pass", "pass:" + row.secret, "/secret"})
		if err != nil {
			t.Fatal(err)
		}
		c := newChip(env, o, file)
		if err = c.open(); err == nil {
			err = c.roundTrip()
		}
		c.close()
		if !errors.Is(err, row.want) {
			t.Errorf("%s, %s: %v", row.policy, row.secret, err)
		}
	}
}

// A wrong secret is found before anything is mounted, and costs one try; in a lockout
// none is spent.
func TestChipWrongSecret(t *testing.T) {
	t.Parallel()
	tpm := startFor(t, "tpm2/e2-rsa-auth-da.pem")
	c := newTestChipWith(t, tpm, "tpm2/e2-rsa-auth-da.pem", "faux")
	if err := c.open(); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
		t.Fatal(err)
	}
	for range 2 { // the kernel asks again
		if err := c.roundTrip(); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
			t.Error(err)
		}
	}
	other, err := tpmkey.Open(t.Context(), tpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s, err := other.Status(t.Context()); err != nil || s.Lockout.Tries != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
