package tpm12_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

var errLost = errors.New("lost")

// errorReply is a reply that only has a code.
func errorReply(code tpm12.ResultCode) []byte { return reply(0xc4, 10, uint32(code)) }

// A failure is something that goes wrong with a command in the rolling session.
type failure struct {
	name  string
	cause func(*fixture)
	run   func(*fixture) error // nil: a signature
	code  tpm12.ResultCode     // 0: no error reply
	left  int                  // sessions left in the TPM
}

type fixture struct {
	conn   *tpm12.Conn
	tap    *tpmtest.Tap
	key    tpm12.Handle
	secret *tpm12.Secret
	t      *testing.T
}

func (f *fixture) sign() error { return signFox(f.t, f.conn, f.key, f.secret) }

// onSign has a hook for the next commands TPM_Sign; both may be nil.
func (f *fixture) onSign(before, after func([]byte) ([]byte, error)) { f.on(ordSign, before, after) }

// on has a hook for the next commands of an ordinal; both may be nil.
func (f *fixture) on(ordinal byte, before, after func([]byte) ([]byte, error)) {
	f.tap.Before = func(_ int, cmd []byte) ([]byte, error) {
		if before != nil && cmd[9] == ordinal {
			return before(cmd)
		}
		return cmd, nil
	}
	f.tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if after != nil && err == nil && cmd[9] == ordinal {
			return after(rsp)
		}
		return rsp, err
	}
}

// refuse answers the commands of an ordinal, which the TPM does not see.
func (f *fixture) refuse(ordinal byte, code tpm12.ResultCode) {
	f.on(ordinal, func([]byte) ([]byte, error) { return selfTest, nil }, nil)
	f.tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if bytes.Equal(cmd, selfTest) {
			return errorReply(code), nil
		}
		return rsp, err
	}
}

// selfTest is TPM_ContinueSelfTest, which changes nothing.
var selfTest = []byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x53}

var failures = []failure{
	{name: "out of step", code: tpm12.AuthFail, cause: func(f *fixture) {
		f.onSign(func(cmd []byte) ([]byte, error) { cmd[len(cmd)-41] ^= 1; return cmd, nil }, nil)
	}},
	{name: "wrong secret", code: tpm12.AuthFail, run: func(f *fixture) error { return signFox(f.t, f.conn, f.key, wellKnown) }},
	{name: "somebody flushed it", code: tpm12.InvalidAuthHandle, cause: func(f *fixture) {
		sessions, _ := f.conn.Sessions()
		tpm12.New(f.tap).FlushSession(sessions[0])
	}},
	{name: "bad ciphertext", code: tpm12.DecryptError, run: func(f *fixture) error {
		_, err := f.conn.UnBind(f.key, bytes.Repeat([]byte{0xff}, 256), f.secret) // more than the modulus
		return err
	}},
	{name: "nothing to sign", code: tpm12.BadParameter, run: func(f *fixture) error {
		_, err := f.conn.Sign(f.key, nil, f.secret)
		return err
	}},
	{name: "bad handle", code: tpm12.InvalidKeyHandle, run: func(f *fixture) error {
		_, err := f.conn.Sign(f.key+1, []byte("x"), f.secret)
		return err
	}},
	{name: "foreign key", code: tpm12.DecryptError, run: func(f *fixture) error {
		key, _ := secretKey(f.t)
		key[len(key)-9] ^= 1
		_, err := f.conn.LoadKey2(tpm12.SRK, key, tutorialSRK())
		return err
	}},
	{name: "refused unread", code: tpm12.Disabled, left: 1, cause: func(f *fixture) {
		f.onSign(nil, func([]byte) ([]byte, error) { return errorReply(tpm12.Disabled), nil })
	}},
	{name: "command lost", left: 1, cause: func(f *fixture) {
		f.onSign(func([]byte) ([]byte, error) { return nil, errLost }, nil)
	}},
	{name: "reply lost", left: 1, cause: func(f *fixture) {
		f.onSign(nil, func([]byte) ([]byte, error) { return nil, errLost })
	}},
	{name: "reply changed", left: 1, cause: func(f *fixture) {
		f.onSign(nil, func(rsp []byte) ([]byte, error) { rsp[100] ^= 1; return rsp, nil })
	}},
	{name: "nonce changed", left: 1, cause: func(f *fixture) {
		f.onSign(nil, func(rsp []byte) ([]byte, error) { rsp[len(rsp)-41] ^= 1; return rsp, nil })
	}},
	{name: "reply cut", left: 1, cause: func(f *fixture) {
		f.onSign(nil, func(rsp []byte) ([]byte, error) { return rsp[:40], nil })
	}},
	{name: "refused as if by a TPM 2.0", code: tpm12.BadTag, left: 1, cause: func(f *fixture) {
		f.onSign(nil, func([]byte) ([]byte, error) { return errorReply(tpm12.BadTag), nil })
	}},
}

// Each failure ends the session, costs no second command, and the next operation
// goes well in a new session.
func TestFailuresInTheRollingSession(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	for _, fail := range failures {
		t.Run(fail.name, func(t *testing.T) {
			defer sw.Restart() // the TPM counts wrong secrets
			dev, err := transport.Open(sw.Socket, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			f := &fixture{tap: tpmtest.NewTap(dev), t: t}
			f.conn = tpm12.New(f.tap)
			defer f.tap.Close()
			f.conn.Keep(true)
			f.key, f.secret = loadSecretKey(t, f.conn)
			if fail.cause != nil {
				fail.cause(f)
			}
			if fail.run == nil {
				fail.run = (*fixture).sign
			}
			f.tap.Reset()
			err = fail.run(f)
			if n := f.tap.Count(); n != 1 {
				t.Errorf("%d commands", n)
			}
			var refused *tpm12.Error
			if isErrorReply := errors.As(err, &refused); err == nil || isErrorReply != (fail.code != 0) || isErrorReply && refused.Code != fail.code {
				t.Errorf("%v, want %v", err, fail.code)
			}
			f.onSign(nil, nil)
			wantSessions(t, f.tap, fail.left)
			f.tap.Reset()
			mustSign(t, f.conn, f.key, f.secret)
			if f.tap.Count(ordOIAP, ordSign) != 2 || f.tap.Count() > 3 {
				t.Errorf("afterwards commands %#x", ordinals(f.tap))
			}
			f.conn.EndSessions()
			wantSessions(t, f.tap, 0)
			if keys, err := f.conn.LoadedKeys(); err != nil || len(keys) != 1 {
				t.Errorf("keys %v, %v", keys, err)
			}
		})
	}
}

// A dropper counts how often its connection is to be broken.
type dropper struct {
	*tpmtest.Tap
	n int
}

func (d *dropper) Drop() { d.n++ }

// A reply that cannot be trusted breaks the connection; an error reply does not.
func TestFailuresDropTheConnection(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	for _, fail := range failures {
		dev, err := transport.Open(sw.Socket, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		device := &dropper{Tap: tpmtest.NewTap(dev)}
		f := &fixture{conn: tpm12.New(device), tap: device.Tap, t: t}
		f.conn.Keep(true)
		f.key, f.secret = loadSecretKey(t, f.conn)
		mustSign(t, f.conn, f.key, f.secret)
		if fail.cause != nil {
			fail.cause(f)
		}
		if fail.run == nil {
			fail.run = (*fixture).sign
		}
		want := 0
		if fail.code == 0 {
			want = 1
		}
		if err := fail.run(f); err == nil || device.n != want {
			t.Errorf("%s: %v: dropped %d times, want %d", fail.name, err, device.n, want)
		}
		f.tap.Close()
		sw.Restart() // the TPM counts wrong secrets
	}
}

// The same in a KeySession: it ends, and what is left of it is freed.
func TestFailuresInAKeySession(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	f := &fixture{conn: conn, tap: tap, t: t}
	f.key, f.secret = loadSecretKey(t, conn)
	for _, fail := range failures {
		if fail.run != nil || fail.code != 0 && fail.code != tpm12.Disabled {
			continue
		}
		session, err := conn.OpenKeySession(f.key, f.secret)
		if err != nil {
			t.Fatal(err)
		}
		fail.cause(f)
		if err := signFox(t, conn, f.key, session); err == nil || session.Alive() {
			t.Errorf("%s: %v, alive %v", fail.name, err, session.Alive())
		}
		f.onSign(nil, nil)
	}
	wantSessions(t, tap, 1)
	conn.EndSessions()
	wantSessions(t, tap, 0)
}

// A lock leaves the session as it was.
func TestLockedSession(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	conn.Keep(true)
	key, secret := loadSecretKey(t, conn)
	(&fixture{conn: conn, tap: tap, key: key, t: t}).lock()
	tap.Reset()
	var refused *tpm12.Error
	if err := signFox(t, conn, key, secret); err != nil && (!errors.As(err, &refused) || refused.Code != tpm12.DefendLockRunning) {
		t.Error(err)
	}
	if err := conn.ResetLockValue(wellKnown); err != nil {
		t.Fatal(err)
	}
	mustSign(t, conn, key, secret)
	if tap.Count(ordSign) != 2 || tap.Count(ordOIAP) != 1 {
		t.Errorf("commands %#x", ordinals(tap))
	}
	conn.EndSessions()
	wantSessions(t, tap, 0)
}

// Commands with sessions of their own leave none, whatever happens.
func TestOwnSessionsEnd(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	if err := conn.ResetLockValue(tutorialSRK()); !errors.Is(err, tpm12.AuthFail) {
		t.Error(err)
	}
	if _, err := conn.CreateWrapKey(tpm12.SRK, wellKnown, nil, wellKnown, wellKnown); err == nil {
		t.Error("made a key of nothing")
	}
	wantSessions(t, tap, 0)
	if err := conn.ResetLockValue(wellKnown); !errors.Is(err, tpm12.AuthFail) && err != nil {
		t.Error(err)
	}
	// Refused before the TPM looks at the authorization: the session stays.
	tap.Before = func(_ int, cmd []byte) ([]byte, error) {
		if binary.BigEndian.Uint16(cmd) == 0xc2 {
			return selfTest, nil
		}
		return cmd, nil
	}
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if bytes.Equal(cmd, selfTest) {
			return errorReply(tpm12.Disabled), nil
		}
		return rsp, err
	}
	if err := conn.OwnerSetDisable(false, wellKnown); !errors.Is(err, tpm12.Disabled) {
		t.Error(err)
	}
	wantSessions(t, tap, 0)
}

// Keys that the TPM refuses before it looks at the session leave none.
func TestDamagedKeys(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Tutorial)
	key, secret := secretKey(t)
	for _, keep := range []bool{false, true} {
		conn.Keep(keep)
		for range 20 { // more than a TPM has sessions
			if _, err := conn.LoadKey2(tpm12.SRK, key[:30], tutorialSRK()); !errors.Is(err, tpm12.Size) {
				t.Fatal(err)
			}
		}
		h, err := conn.LoadKey2(tpm12.SRK, key, tutorialSRK())
		if err != nil {
			t.Fatal(err)
		}
		mustSign(t, conn, h, secret)
		conn.EndSessions()
		wantSessions(t, tap, 0)
	}
}
