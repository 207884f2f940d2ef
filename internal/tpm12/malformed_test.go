package tpm12_test

import (
	"errors"
	"testing"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// UnBindLast without authorization works like UnBind.
func TestUnBindLastWithoutAuth(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Tutorial)
	key, err := conn.LoadKey2(tpm12.SRK, tpmtest.Fixture(t, "tpm12-tutorial/maclef.raw"), tutorialSRK())
	if err != nil {
		t.Fatal(err)
	}
	var secret *tpm12.Secret
	var session *tpm12.KeySession
	for name, auth := range map[string]tpm12.Auth{"nil": nil, "no secret": secret} {
		tap.Reset()
		plain, err := conn.UnBindLast(key, tpmtest.Fixture(t, "tpm12-tutorial/maclef.bound"), auth)
		if err != nil || string(plain) != "bonjour" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
		wantCommands(t, tap, ordUnBind)
	}
	if _, err := conn.UnBindLast(key, nil, session); !errors.Is(err, tpm12.ErrSessionEnded) {
		t.Error(err)
	}
}

// A dropped is a TPM that gives one answer to everything, and is dropped then.
type dropped struct {
	canned
	n int
}

func (d *dropped) Drop() { d.n++ }

// A reply that no TPM sends counts as no answer.
func TestMalformedRepliesAreNoAnswers(t *testing.T) {
	t.Parallel()
	for name, r := range map[string][]byte{
		"one byte": reply(0xc4, 11, 0, 7), "sized too large": reply(0xc4, 15, 0, 0xff, 0xff, 0xff, 0xff, 0),
	} {
		for call, f := range calls {
			device := &dropped{canned: r}
			err := f(tpm12.New(device))
			var unanswered *tpm12.Unanswered
			if !errors.As(err, &unanswered) || device.n == 0 {
				t.Errorf("%s: %s: %v, dropped %d times", name, call, err, device.n)
			}
		}
	}
}

// Save of a session that somebody flushed ends it.
func TestSaveOfAFlushedSession(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	session := s.open()
	open, err := s.conn.Sessions()
	if err != nil || len(open) != 1 {
		t.Fatal(open, err)
	}
	if err := tpm12.New(s.tap).FlushSession(open[0]); err != nil {
		t.Fatal(err)
	}
	if err := session.Save(); !errors.Is(err, tpm12.InvalidResource) {
		t.Error(err)
	}
	s.wantLost(session)
}

// Restore frees the session if the reply is too long, and frees no key.
func TestRestoreWithLongReply(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	s := newSaver(t)
	session := s.saved()
	s.on(ordLoadContext, nil, unanswered["reply longer"].after)
	if err := session.Restore(s.key); err == nil {
		t.Error("restored by a reply that goes on")
	}
	s.on(ordLoadContext, nil, nil)
	wantSessions(t, s.tap, 0)
	mustSign(t, s.conn, s.key, s.secret)
}
