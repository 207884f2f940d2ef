package tpm20_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// The TPM was restarted, unnoticed, and its handles are others'.
func TestRestartUnnoticed(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.TPM20)
	device := &swappable{tap: dial(t, sw)}
	conn := tpm20.New(device)
	f := &fixture{t: t, conn: conn, parent: primary(t, conn, false)}
	private, public := createBlobs(t, conn, f.parent, eccKey, "pw", nil)
	f.load(private, public)
	conn.EndSessions()
	f.warm()
	f.mustSign()
	before := f.session

	device.tap.Close()
	sw.Restart()
	device.tap = dial(t, sw)
	clearLockout(t, device.tap)
	other := tpm20.New(device)
	f.key.Handle-- // the parent takes its own handle, the key the next one
	theirs := &fixture{t: t, conn: other, parent: primary(t, other, false)}
	theirs.load(private, public)
	theirs.mustSign()
	if theirs.session.Handle() != before.Handle() {
		t.Fatalf("session %#x, there was %#x", theirs.session.Handle(), before.Handle())
	}
	f.key.Handle = theirs.key.Handle
	var refused *tpm20.Error
	if err := f.sign("pw"); !errors.As(err, &refused) || !errors.Is(err, tpm2.TPMRCAuthFail) {
		t.Errorf("%v, %+v", err, refused)
	}
	conn.Forget()
	if conn.Holds() || f.session.Alive() || conn.Owns(uint32(f.session.Handle())) {
		t.Error("forgotten, and not")
	}
	wantLoaded(t, device.tap, 2, 1)
	theirs.mustSign()
}

type swappable struct{ tap *tpmtest.Tap }

func (s *swappable) Send(cmd []byte) ([]byte, error) { return s.tap.Send(cmd) }

func (f *fixture) load(private, public []byte) {
	f.t.Helper()
	var err error
	if f.key, err = f.conn.Load(f.parent, nil, private, public); err != nil {
		f.t.Fatal(err)
	}
}

// A TPM that refuses everything is said to be in failure mode; one that refuses a
// ciphertext by the same code is not, and is asked nothing more.
func TestFailureMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustSign()
	f.tap.After = func(int, []byte, []byte, error) ([]byte, error) { return errorReply(tpm2.TPMRCFailure), nil }
	var refused *tpm20.Error
	if err := f.sign("pw"); !errors.As(err, &refused) || !refused.Failed || refused.Code != tpm2.TPMRCFailure {
		t.Errorf("%v", err)
	}
	if failed, err := f.conn.InFailureMode(); !failed || err != nil {
		t.Error(failed, err)
	}
	f.after(func([]byte) ([]byte, error) { return errorReply(tpm2.TPMRCFailure), nil })
	if err := f.sign("pw"); !errors.As(err, &refused) || refused.Failed {
		t.Errorf("%v", err)
	}
	f.tap.After = nil
	if tpmtest.ImplicitRejection() {
		return // it refuses no ciphertext
	}
	key := create(t, f.conn, f.parent, rsaKey, "")
	f.tap.Reset()
	_, err := f.conn.RSADecrypt(key, nil, make([]byte, 256), tpm2.TPMTRSADecrypt{
		Scheme: tpm2.TPMAlgRSAES, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})})
	if !errors.As(err, &refused) || refused.Failed {
		t.Errorf("%v", err)
	}
	if log := commands(f.tap); log[len(log)-1] != ccDecrypt {
		t.Errorf("commands %#x", log)
	}
}

// If a success is changed into an error reply on its way, the command is sent again. It is then
// out of step, or its session is gone, which counts as no answer.
func TestAnswerTakenForBusy(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} {
		f := newFixture(t)
		f.mustSign()
		first := true
		f.after(func(rsp []byte) ([]byte, error) {
			if !first {
				return rsp, nil
			}
			first = false
			return errorReply(tpm2.TPMRCRetry), nil
		})
		f.tap.Before = func(i int, cmd []byte) ([]byte, error) {
			if i == 1 && flush {
				return flushing(f.session), nil
			}
			return cmd, nil
		}
		if flush {
			f.tap.After = func(i int, _, rsp []byte, err error) ([]byte, error) {
				if i == 0 || i == 1 {
					return errorReply(tpm2.TPMRCRetry), nil
				}
				return rsp, err
			}
		}
		f.tap.Reset()
		err := f.sign("pw")
		var refused *tpm20.Error
		var unanswered *tpm20.Unanswered
		if !flush && (!errors.As(err, &refused) || !errors.Is(err, tpm2.TPMRCAuthFail)) {
			t.Errorf("%v", err)
		}
		if flush && (!errors.As(err, &unanswered) || !unanswered.Secret) {
			t.Errorf("%v", err)
		}
	}
}

// flushing is TPM2_FlushContext.
func flushing(s *tpm20.Session) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65}, uint32(s.Handle()))
}

// A policy session that somebody flushed is gone, whichever command finds out.
func TestPolicySessionGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := mustStart(f.conn.StartPolicy(tpm2.TPMAlgSHA256, f.parent))
	if _, err := f.tap.Send(flushing(s)); err != nil {
		t.Fatal(err)
	}
	_, err := tpm20.Run(f.conn, tpm2.PolicyAuthValue{PolicySession: s.Handle()})
	if !errors.Is(err, tpm2.TPMRCReferenceH0) || s.Alive() || f.conn.Holds() {
		t.Error(err, s.Alive())
	}
}
