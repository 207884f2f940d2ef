package tpm12_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// connect opens a running software TPM, and closes it with the test.
func connect(t *testing.T, sw *tpmtest.SWTPM) (*tpm12.Conn, *tpmtest.Tap) {
	t.Helper()
	dev, err := transport.Open(sw.Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(dev)
	t.Cleanup(func() { tap.Close() })
	return tpm12.New(tap), tap
}

func mustSave(t *testing.T, conn *tpm12.Conn, key tpm12.Handle) []byte {
	t.Helper()
	saved, err := conn.SaveContext(key)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func TestContextCycles(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Tutorial)
	conn.Keep(true)
	key, secret := loadSecretKey(t, conn)
	first := mustSave(t, conn, key)
	mustSign(t, conn, key, secret) // it is loaded still
	saved := first
	tap.Reset()
	const cycles = 200
	for i := range cycles {
		if err := conn.FlushSpecific(key); err != nil {
			t.Fatal(err)
		}
		var err error
		if key, err = conn.LoadContext(saved); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		mustSign(t, conn, key, secret)
		saved = mustSave(t, conn, key)
	}
	if n := tap.Count(); n != 4*cycles {
		t.Errorf("%d commands for %d cycles", n, cycles)
	}
	again, err := conn.LoadContext(first)
	if err != nil || again == key {
		t.Fatal(again, key, err)
	}
	mustSign(t, conn, again, secret)
	if keys, err := conn.LoadedKeys(); err != nil || len(keys) != 2 {
		t.Error(keys, err)
	}
}

// TestContexts checks the rest of what context.go documents: handles without a context, damaged
// contexts, how many copies of a key fit, and when a context ends.
func TestContexts(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	conn, tap := connect(t, sw)
	key, secret := loadSecretKey(t, conn)
	saved := mustSave(t, conn, key)
	for _, h := range []tpm12.Handle{tpm12.SRK, key + 1} {
		if _, err := conn.SaveContext(h); !errors.Is(err, tpm12.InvalidResource) {
			t.Errorf("%v: %v", h, err)
		}
	}
	for _, at := range []int{3, 30, 40, 200, len(saved) - 1} {
		damaged := bytes.Clone(saved)
		damaged[at] ^= 1
		var refused *tpm12.Error
		if h, err := conn.LoadContext(damaged); !errors.As(err, &refused) {
			t.Errorf("byte %d changed: %v, %v", at, h, err)
		}
	}
	n := 1
	for ; ; n++ {
		if _, err := conn.LoadContext(saved); err != nil {
			if !errors.Is(err, tpm12.NoSpace) {
				t.Error(err)
			}
			break
		}
	}
	if _, total, err := conn.KeySlots(); err != nil || int(total) != n {
		t.Errorf("room for %d, of %d: %v", n, total, err)
	}
	conn.FlushSpecific(key)
	tap.Close()
	conn, tap = connect(t, sw)
	if key, err := conn.LoadContext(saved); err != nil {
		t.Error(err)
	} else {
		mustSign(t, conn, key, secret)
	}
	tap.Close()
	sw.Restart()
	conn, _ = connect(t, sw)
	if _, err := conn.LoadContext(saved); !errors.Is(err, tpm12.BadContext) {
		t.Error(err)
	}
}

// A lost reply to a command that loads is no error reply.
func TestLostLoad(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	key, _ := loadSecretKey(t, conn)
	saved := mustSave(t, conn, key)
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if cmd[9] == 0xb9 {
			return nil, errLost
		}
		return rsp, err
	}
	_, err := conn.LoadContext(saved)
	var refused *tpm12.Error
	if !errors.Is(err, errLost) || errors.As(err, &refused) {
		t.Error(err)
	}
	if keys, err := conn.LoadedKeys(); err != nil || len(keys) != 2 {
		t.Error(keys, err)
	}
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if cmd[9] == 0xb9 {
			rsp = append(rsp, 0)
			rsp[5]++
		}
		return rsp, err
	}
	if _, err := conn.LoadContext(saved); err == nil || errors.As(err, &refused) {
		t.Error(err)
	}
	if keys, err := conn.LoadedKeys(); err != nil || len(keys) != 2 {
		t.Error("a key was left over:", keys, err)
	}
}

// swtpm's control channel resets the TPM, as a machine does that wakes up. CMD_INIT
// of swtpm_ioctls(3).
func reset(t *testing.T, sw *tpmtest.SWTPM) {
	t.Helper()
	conn, err := net.Dial("unix", sw.Control)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write([]byte{0, 0, 0, 2, 0, 0, 0, 0})
	result := make([]byte, 4)
	if _, err := io.ReadFull(conn, result); err != nil || !bytes.Equal(result, make([]byte, 4)) {
		t.Fatal(result, err)
	}
}

func TestStartup(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	conn, tap := connect(t, sw)
	conn.Keep(true)
	key, secret := loadSecretKey(t, conn)
	session, err := conn.OpenKeySession(key, secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Startup(); !errors.Is(err, tpm12.InvalidPostInit) { // it was
		t.Error(err)
	}
	tap.Close()
	reset(t, sw)
	// The same Conn, over a connection of now.
	dev, err := transport.Open(sw.Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap2 := tpmtest.NewTap(dev)
	defer tap2.Close()
	tap.Before = func(_ int, cmd []byte) ([]byte, error) { return cmd, nil }
	tap.After = func(_ int, cmd, _ []byte, _ error) ([]byte, error) { return tap2.Send(cmd) }
	for range 2 {
		if err := signFox(t, conn, key, session); !errors.Is(err, tpm12.InvalidPostInit) && !errors.Is(err, tpm12.ErrSessionEnded) {
			t.Error(err)
		}
	}
	if err := conn.Startup(); err != nil {
		t.Fatal(err)
	}
	if err := conn.ContinueSelfTest(); err != nil {
		t.Error(err)
	}
	tap2.Reset()
	conn.EndSessions() // there are none
	if n := tap2.Count(); n != 0 || session.Alive() {
		t.Errorf("%d commands, alive %v", n, session.Alive())
	}
	key, secret = loadSecretKey(t, conn)
	mustSign(t, conn, key, secret)
}
