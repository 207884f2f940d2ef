package tpm20_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

var errLost = errors.New("lost")

// reply is what a TPM answers.
func reply(tag tpm2.TPMST, code tpm2.TPMRC, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(b, uint32(code)), body...)
}

// errorReply is a reply that only has a code.
func errorReply(code tpm2.TPMRC) []byte { return reply(tpm2.TPMSTNoSessions, code) }

// onSign has a hook for the next commands TPM2_Sign; both may be nil.
func (f *fixture) onSign(before, after func([]byte) ([]byte, error)) { f.on(ccSign, before, after) }

// on has a hook for the next commands of a code; both may be nil.
func (f *fixture) on(cc uint32, before, after func([]byte) ([]byte, error)) {
	isIt := func(cmd []byte) bool { return binary.BigEndian.Uint32(cmd[6:]) == cc }
	f.tap.Before = func(_ int, cmd []byte) ([]byte, error) {
		if before != nil && isIt(cmd) {
			return before(cmd)
		}
		return cmd, nil
	}
	f.tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if after != nil && err == nil && isIt(cmd) {
			return after(rsp)
		}
		return rsp, err
	}
}

// harmless is TPM2_ReadClock.
var harmless = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81}

// refuse answers the next n commands TPM2_Sign, which the TPM does not see.
func (f *fixture) refuse(code tpm2.TPMRC, n int) { f.refuseOn(ccSign, code, n) }

func (f *fixture) refuseOn(cc uint32, code tpm2.TPMRC, n int) {
	f.on(cc, func(cmd []byte) ([]byte, error) {
		if n--; n >= 0 {
			return harmless, nil
		}
		return cmd, nil
	}, nil)
	f.tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if bytes.Equal(cmd, harmless) {
			return errorReply(code), nil
		}
		return rsp, err
	}
}

// A failure is something that goes wrong with a command in a session.
type failure struct {
	name  string
	cause func(*fixture)
	run   func(*fixture) error // nil: a signature
	code  tpm2.TPMRC           // 0: no error reply
	alive bool                 // the session goes on
	left  int                  // sessions left in the TPM
	gone  bool                 // the key is
}

func (f *fixture) after(after func([]byte) ([]byte, error)) { f.onSign(nil, after) }

// flip changes a byte of the reply, counted from its end.
func flip(fromEnd int) func(*fixture) {
	return func(f *fixture) {
		f.after(func(rsp []byte) ([]byte, error) { rsp[len(rsp)-fromEnd] ^= 1; return rsp, nil })
	}
}

var failures = []failure{
	{name: "wrong secret", code: tpm2.TPMRCAuthFail, alive: true, left: 1, run: func(f *fixture) error { return f.sign("no") }},
	{name: "out of step", code: tpm2.TPMRCAuthFail, alive: true, left: 1, cause: func(f *fixture) {
		f.onSign(func(cmd []byte) ([]byte, error) { cmd[10+4+4+4+2] ^= 1; return cmd, nil }, nil)
	}},
	{name: "nothing to sign", code: tpm2.TPMRCSize, alive: true, left: 1, run: func(f *fixture) error {
		_, err := f.conn.Sign(f.key, f.session.For([]byte("pw"), 0), ecdsaSHA256, nil, nil)
		return err
	}},
	{name: "bad handle", code: tpm2.TPMRCReferenceH0, alive: true, left: 1, run: func(f *fixture) error {
		o := *f.key
		o.Handle++
		_, err := f.conn.Sign(&o, f.session.For([]byte("pw"), 0), ecdsaSHA256, message[:], nil)
		return err
	}},
	{name: "key flushed by somebody", code: tpm2.TPMRCReferenceH0, alive: true, left: 1, gone: true, cause: func(f *fixture) {
		tpm20.New(f.tap).Flush(f.key.Handle)
	}},
	{name: "session flushed by somebody", code: tpm2.TPMRCReferenceS0, cause: func(f *fixture) {
		tpm20.New(f.tap).Flush(f.session.Handle())
	}},
	{name: "refused unread", code: tpm2.TPMRCLockout, alive: true, left: 1, cause: func(f *fixture) { f.refuse(tpm2.TPMRCLockout, 1) }},
	{name: "nonce refused", code: tpm2.TPMRCNonce, left: 1, cause: func(f *fixture) { f.refuse(tpm2.TPMRCNonce|0x900, 1) }},
	{name: "command lost", left: 1, cause: func(f *fixture) {
		f.onSign(func([]byte) ([]byte, error) { return nil, errLost }, nil)
	}},
	{name: "reply lost", left: 1, cause: func(f *fixture) { f.after(func([]byte) ([]byte, error) { return nil, errLost }) }},
	{name: "parameters changed", left: 1, cause: flip(80)},
	{name: "nonce changed", left: 1, cause: flip(40)},
	{name: "attributes changed", left: 1, cause: flip(35)},
	{name: "HMAC changed", left: 1, cause: flip(1)},
	{name: "reply cut", left: 1, cause: func(f *fixture) {
		f.after(func(rsp []byte) ([]byte, error) { return rsp[:40], nil })
	}},
	{name: "reply shorter", left: 1, cause: func(f *fixture) {
		f.after(func(rsp []byte) ([]byte, error) {
			rsp = rsp[:len(rsp)-1]
			binary.BigEndian.PutUint32(rsp[2:], uint32(len(rsp)))
			return rsp, nil
		})
	}},
	{name: "reply longer", left: 1, cause: func(f *fixture) {
		f.after(func(rsp []byte) ([]byte, error) {
			rsp = append(rsp, 0)
			binary.BigEndian.PutUint32(rsp[2:], uint32(len(rsp)))
			return rsp, nil
		})
	}},
	{name: "without authorization", left: 1, cause: func(f *fixture) {
		f.after(func(rsp []byte) ([]byte, error) { return reply(tpm2.TPMSTNoSessions, 0, rsp[14:60]...), nil })
	}},
	{name: "an answer of a TPM 1.2", left: 1, cause: func(f *fixture) {
		f.after(func([]byte) ([]byte, error) { return reply(0xc4, 0x1e), nil })
	}},
}

// After each failure the next signature succeeds, and no session is left over. An error reply
// leaves the session, unless it says that it is gone.
func TestFailures(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	_, tap, sw := start(t)
	for _, fail := range failures {
		t.Run(fail.name, func(t *testing.T) {
			tap.Close()
			sw.Restart()
			tap = dial(t, sw)
			clearLockout(t, tap) // a restart counts
			f := fixtureOn(t, tpm20.New(tap), tap)
			f.mustSign()
			s := f.session
			if fail.cause != nil {
				fail.cause(f)
			}
			if fail.run == nil {
				fail.run = func(f *fixture) error { return f.sign("pw") }
			}
			f.tap.Reset()
			err := fail.run(f)
			wantCommands(t, f.tap, ccSign)
			f.check(fail, err)
			if s.Alive() != fail.alive || f.conn.Owns(uint32(s.Handle())) != fail.alive {
				t.Errorf("alive: %v", s.Alive())
			}
			f.onSign(nil, nil)
			wantLoaded(t, f.tap, f.objects(fail), fail.left)
			if fail.gone {
				f.key = create(t, f.conn, f.parent, eccKey, "pw")
			}
			f.mustSign()
			f.conn.EndSessions()
			wantLoaded(t, f.tap, 2, 0)
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
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	for _, fail := range failures {
		_, tap := open(t)
		device := &dropper{Tap: tap}
		f := fixtureOn(t, tpm20.New(device), tap)
		f.mustSign()
		if fail.cause != nil {
			fail.cause(f)
		}
		if fail.run == nil {
			fail.run = func(f *fixture) error { return f.sign("pw") }
		}
		want := 0
		if fail.code == 0 {
			want = 1
		}
		if err := fail.run(f); err == nil || device.n != want {
			t.Errorf("%s: %v: dropped %d times, want %d", fail.name, err, device.n, want)
		}
	}
}

func (f *fixture) objects(fail failure) int {
	if fail.gone {
		return 1
	}
	return 2
}

func (f *fixture) check(fail failure, err error) {
	f.t.Helper()
	var refused *tpm20.Error
	var unanswered *tpm20.Unanswered
	switch {
	case fail.code != 0:
		if !errors.As(err, &refused) || !errors.Is(err, fail.code) || errors.As(err, &unanswered) {
			f.t.Errorf("%v (%+v), want %v", err, refused, fail.code)
		}
		if (refused.Gone == f.key.Handle) != fail.gone || refused.SessionGone {
			f.t.Errorf("the key is gone, or is not and is taken for that: %+v", refused)
		}
	case !errors.As(err, &unanswered) || !unanswered.Secret || errors.As(err, &refused):
		f.t.Errorf("%v (%+v), want no answer", err, unanswered)
	}
}
