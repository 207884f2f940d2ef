package tpm12_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	gotransport "github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// A swappable is a connection that is replaced while a Conn uses it.
type swappable struct{ gotransport.TPMCloser }

// A saver is a fixture whose TPM can be restarted.
type saver struct {
	*fixture
	sw      *tpmtest.SWTPM
	device  *swappable
	context []byte // the key's
}

func newSaver(t *testing.T) *saver {
	t.Helper()
	s := &saver{fixture: &fixture{t: t}, sw: tpmtest.Start(t, tpmtest.Tutorial), device: &swappable{}}
	s.connect()
	s.tap = tpmtest.NewTap(s.device)
	t.Cleanup(func() { s.tap.Close() })
	s.conn = tpm12.New(s.tap)
	s.key, s.secret = loadSecretKey(t, s.conn)
	s.context = mustSave(t, s.conn, s.key)
	s.tap.Reset()
	return s
}

func (s *saver) connect() {
	s.t.Helper()
	dev, err := transport.Open(s.sw.Socket, time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	s.device.TPMCloser = dev
}

// reload loads the key from its context.
func (s *saver) reload() {
	s.t.Helper()
	var err error
	if s.key, err = s.conn.LoadContext(s.context); err != nil {
		s.t.Fatal(err)
	}
}

func (s *saver) flushKey() {
	s.t.Helper()
	if err := s.conn.FlushSpecific(s.key); err != nil {
		s.t.Fatal(err)
	}
}

// open opens a session for the key.
func (f *fixture) open() *tpm12.KeySession {
	f.t.Helper()
	session, err := f.conn.OpenKeySession(f.key, f.secret)
	if err != nil {
		f.t.Fatal(err)
	}
	return session
}

// wantSaved asks the TPM by a Conn of its own.
func wantSaved(t testing.TB, tap *tpmtest.Tap, want ...uint32) {
	t.Helper()
	if got, err := tpm12.New(tap).SavedSessions(); err != nil || !slices.Equal(got, want) {
		t.Errorf("saved sessions %d, %v; want %d", got, err, want)
	}
}

// save saves the only session there is.
func (s *saver) save(session *tpm12.KeySession) {
	s.t.Helper()
	if err := session.Save(); err != nil {
		s.t.Fatal(err)
	}
	if session.Alive() || !session.Saved() || s.conn.Holds() {
		s.t.Errorf("saved; alive %v, saved %v, held %v", session.Alive(), session.Saved(), s.conn.Holds())
	}
	wantSessions(s.t, s.tap, 0)
	wantSaved(s.t, s.tap, session.Context())
	if err := signFox(s.t, s.conn, s.key, session); !errors.Is(err, tpm12.ErrSessionEnded) {
		s.t.Errorf("saved: %v", err)
	}
}

// saved is a session that is saved.
func (s *saver) saved() *tpm12.KeySession {
	s.t.Helper()
	session := s.open()
	mustSign(s.t, s.conn, s.key, session)
	s.save(session)
	return session
}

func (s *saver) restore(session *tpm12.KeySession) {
	s.t.Helper()
	if err := session.Restore(s.key); err != nil {
		s.t.Fatal(err)
	}
	if !session.Alive() || session.Saved() || session.Context() != 0 || !s.conn.Holds() {
		s.t.Errorf("restored; alive %v, saved %v, held %v", session.Alive(), session.Saved(), s.conn.Holds())
	}
	wantSaved(s.t, s.tap)
	if open, err := s.conn.Sessions(); err != nil || len(open) != 1 || !s.conn.Owns(open[0]) {
		s.t.Errorf("restored: sessions %#x, %v", open, err)
	}
}

// A saved session authorizes again once it is restored, whatever was done meanwhile.
func TestSavedSession(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, meanwhile := range map[string]func(*saver){
		"nothing":     func(*saver) {},
		"key flushed": func(s *saver) { s.flushKey(); s.reload() },
		"key moved": func(s *saver) {
			before := s.key
			s.reload()
			if s.key == before {
				s.t.Fatal("two keys have a handle")
			}
			s.conn.FlushSpecific(before)
		},
		"key used by a secret": func(s *saver) { mustSign(s.t, s.conn, s.key, s.secret) },
		"sessions ended":       func(s *saver) { s.conn.EndSessions(); s.conn.EndRolling() },
		"forgotten":            func(s *saver) { s.conn.Lost(s.key); s.conn.Forget() },
		"connected anew":       func(s *saver) { s.device.Close(); s.connect() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t)
			session := s.open()
			for range 3 {
				mustSign(t, s.conn, s.key, session)
				s.save(session)
				meanwhile(s)
				s.restore(session)
			}
			mustSign(t, s.conn, s.key, session)
			s.conn.EndSessions()
			wantSessions(t, s.tap, 0)
			wantSaved(t, s.tap)
		})
	}
}

// A restored session ends with the key that it was restored for.
func TestRestoredSessionEndsWithItsKey(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	session, before := s.saved(), s.key
	s.reload()
	s.restore(session)
	s.conn.Lost(before)
	if !session.Alive() {
		t.Error("it ended with another handle")
	}
	s.flushKey()
	wantSessions(t, s.tap, 0)
	if session.Alive() || session.Saved() || s.conn.Holds() {
		t.Error("its key was flushed, and it is alive")
	}
}

// The context of a session loads once.
func TestSavedSessionLoadsOnce(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	s := newSaver(t)
	session := s.saved()
	s.tap.Reset()
	s.restore(session)
	again := s.tap.Exchanges()[0]
	refused := func() {
		t.Helper()
		rsp, err := s.tap.Send(again.Command)
		if err != nil || again.Ordinal != ordLoadContext || tpm12.ResultCode(binary.BigEndian.Uint32(rsp[6:])) != tpm12.BadContext {
			t.Errorf("loaded again: %x, %v", rsp, err)
		}
	}
	refused()
	mustSign(t, s.conn, s.key, session)
	s.save(session)
	refused()
	s.restore(session)
	mustSign(t, s.conn, s.key, session)
	s.conn.EndSessions()
	refused()
	wantSessions(t, s.tap, 0)
	wantSaved(t, s.tap)
}

const (
	badHandle       tpm12.ResultCode = 0x58
	resourceMissing tpm12.ResultCode = 0x4a
)

// lossesOfSaved are why a saved session cannot be restored.
var lossesOfSaved = []struct {
	name  string
	cause func(*saver, *tpm12.KeySession)
	code  tpm12.ResultCode
	left  bool // the TPM has it
}{
	{name: "freed", code: tpm12.BadContext, cause: func(s *saver, session *tpm12.KeySession) {
		if err := tpm12.New(s.tap).FlushSaved(session.Context()); err != nil {
			s.t.Error(err)
		}
	}},
	{name: "TPM restarted", code: tpm12.BadContext, cause: func(s *saver, _ *tpm12.KeySession) {
		s.device.Close()
		s.sw.Restart()
		s.connect()
		s.key, _ = loadSecretKey(s.t, s.conn)
	}},
	{name: "for no key", code: badHandle, left: true, cause: func(s *saver, _ *tpm12.KeySession) { s.key = 0 }},
	{name: "for another key", code: resourceMissing, left: true, cause: func(s *saver, _ *tpm12.KeySession) { s.key = tpm12.SRK }},
	{name: "key not loaded", code: badHandle, left: true, cause: func(s *saver, _ *tpm12.KeySession) { s.flushKey() }},
}

// A session that cannot be restored is lost. Where the TPM has it still, FlushSaved
// frees it.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for _, loss := range lossesOfSaved {
		t.Run(loss.name, func(t *testing.T) {
			s := newSaver(t)
			session := s.saved()
			number := session.Context()
			loss.cause(s, session)
			if err := session.Restore(s.key); !errors.Is(err, loss.code) {
				t.Errorf("%v, want %v", err, loss.code)
			}
			s.wantLost(session)
			if loss.left {
				wantSaved(t, s.tap, number)
				if err := s.conn.FlushSaved(number); err != nil {
					t.Error(err)
				}
			}
			wantSaved(t, s.tap)
			if err := s.conn.FlushSaved(number); !errors.Is(err, tpm12.BadParameter) {
				t.Errorf("flushed again: %v", err)
			}
		})
	}
}

// A session stays saved if the TPM has no slot for it now. libtpms forgets it, though.
func TestRestoreWithoutRoom(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	fill := func(s *saver, _ tpm12.ResultCode) (free func()) {
		other := tpm12.New(s.tap)
		for err := error(nil); err == nil; {
			_, err = other.OpenKeySession(s.key, s.secret)
		}
		return other.EndSessions
	}
	inject := func(s *saver, code tpm12.ResultCode) (free func()) {
		s.refuse(ordLoadContext, code)
		return func() { s.on(ordLoadContext, nil, nil) }
	}
	for _, c := range []struct {
		code   tpm12.ResultCode
		cause  func(*saver, tpm12.ResultCode) func()
		forgot bool
	}{{tpm12.Resources, fill, true}, {tpm12.Resources, inject, false}, {tpm12.ContextGap, inject, false}} {
		s := newSaver(t)
		session := s.saved()
		number, free := session.Context(), c.cause(s, c.code)
		if err := session.Restore(s.key); !errors.Is(err, c.code) {
			t.Errorf("%v, want %v", err, c.code)
		}
		if session.Alive() || !session.Saved() || session.Context() != number || s.conn.Holds() {
			t.Errorf("%v: alive %v, saved %v", c.code, session.Alive(), session.Saved())
		}
		free()
		if c.forgot {
			wantSaved(t, s.tap)
			if err := session.Restore(s.key); !errors.Is(err, tpm12.BadContext) {
				t.Error(err)
			}
			s.wantLost(session)
			continue
		}
		s.restore(session)
		mustSign(t, s.conn, s.key, session)
	}
}

// wantLost checks that a session is of no use any more.
func (s *saver) wantLost(session *tpm12.KeySession) {
	s.t.Helper()
	if session.Alive() || session.Saved() || session.Context() != 0 || s.conn.Holds() {
		s.t.Errorf("lost; alive %v, saved %v, held %v", session.Alive(), session.Saved(), s.conn.Holds())
	}
	for name, err := range map[string]error{
		"Save": session.Save(), "Restore": session.Restore(s.key), "Sign": signFox(s.t, s.conn, s.key, session),
	} {
		if !errors.Is(err, tpm12.ErrSessionEnded) {
			s.t.Errorf("%s of a lost session: %v", name, err)
		}
	}
}

// unanswered are commands without an answer that can be trusted.
var unanswered = map[string]struct{ before, after func([]byte) ([]byte, error) }{
	"command lost":  {before: func([]byte) ([]byte, error) { return nil, errLost }},
	"reply lost":    {after: func([]byte) ([]byte, error) { return nil, errLost }},
	"reply cut":     {after: func(rsp []byte) ([]byte, error) { return rsp[:len(rsp)-1], nil }},
	"reply shorter": {after: func(rsp []byte) ([]byte, error) { return resized(rsp[:len(rsp)-1]), nil }},
	"reply longer":  {after: func(rsp []byte) ([]byte, error) { return resized(append(rsp, 0)), nil }},
	"reply empty":   {after: func(rsp []byte) ([]byte, error) { return resized(rsp[:10]), nil }},
}

// resized sets the size in a reply's header.
func resized(rsp []byte) []byte {
	binary.BigEndian.PutUint32(rsp[2:], uint32(len(rsp)))
	return rsp
}

func wantUnanswered(t *testing.T, err error) {
	t.Helper()
	var refused *tpm12.Error
	if err == nil || errors.As(err, &refused) || errors.Is(err, tpm12.ErrSessionEnded) {
		t.Errorf("%v, want no answer", err)
	}
}

// A session whose Save had no answer is in the TPM, or ends when it is used next.
func TestSaveUnanswered(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, how := range unanswered {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t)
			session := s.open()
			s.on(ordSaveContext, how.before, how.after)
			wantUnanswered(t, session.Save())
			s.on(ordSaveContext, nil, nil)
			if session.Saved() || session.Context() != 0 {
				t.Error("it has no context, and is saved")
			}
			if err := signFox(t, s.conn, s.key, session); (err == nil) != session.Alive() {
				t.Errorf("%v, alive %v", err, session.Alive())
			}
			s.conn.EndSessions()
			wantSessions(t, s.tap, 0)
			mustSign(t, s.conn, s.key, s.secret)
		})
	}
}

// A session whose Restore had no answer is lost.
func TestRestoreUnanswered(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, how := range unanswered {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t)
			session := s.saved()
			s.on(ordLoadContext, how.before, how.after)
			wantUnanswered(t, session.Restore(s.key))
			s.on(ordLoadContext, nil, nil)
			s.conn.EndSessions()
			s.wantLost(session)
			mustSign(t, s.conn, s.key, s.secret)
		})
	}
}

// Save and Restore send nothing if they are called in the wrong order.
func TestSaveAndRestoreInTheWrongOrder(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	s := newSaver(t)
	session := s.open()
	refused := func(what string, f func() error) {
		t.Helper()
		s.tap.Reset()
		if err := f(); !errors.Is(err, tpm12.ErrSessionEnded) {
			t.Errorf("%s: %v", what, err)
		}
		wantCommands(t, s.tap)
	}
	restore := func() error { return session.Restore(s.key) }
	refused("Restore before Save", restore)
	s.save(session)
	refused("Save twice", session.Save)
	if !session.Saved() {
		t.Error("the second Save lost it")
	}
	s.restore(session)
	refused("Restore twice", restore)
	mustSign(t, s.conn, s.key, session)
	s.save(session)
	number := session.Context()
	s.tap.Reset()
	session.Close()
	session.Close()
	s.conn.EndSessions()
	wantCommands(t, s.tap) // who saved it frees it
	refused("Restore of a closed session", restore)
	s.wantLost(session)
	wantSaved(t, s.tap, number)
	if err := s.conn.FlushSaved(number); err != nil {
		t.Error(err)
	}
	wantSaved(t, s.tap)
	var none *tpm12.KeySession
	refused("Save of none", none.Save)
	refused("Restore of none", func() error { return none.Restore(s.key) })
}

// A session that cannot be saved is in the TPM still, and authorizes.
func TestTooManySavedSessions(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	f := newSaver(t)
	var saved []*tpm12.KeySession
	session, err := f.open(), error(nil)
	for ; ; session = f.open() {
		if err = session.Save(); err != nil {
			break
		}
		if saved = append(saved, session); len(saved) > 1000 {
			t.Fatal("there is no end")
		}
	}
	if !errors.Is(err, tpm12.NoContextSpace) || !session.Alive() || session.Saved() || len(saved) < 16 {
		t.Errorf("%v, alive %v, after %d", err, session.Alive(), len(saved))
	}
	mustSign(t, f.conn, f.key, session)
	seen := map[uint32]bool{}
	for _, s := range saved {
		seen[s.Context()] = true
	}
	if listed, err := f.conn.SavedSessions(); err != nil || len(listed) != len(saved) || len(seen) != len(saved) {
		t.Errorf("%d listed, %d numbers, %d saved, %v", len(listed), len(seen), len(saved), err)
	}
	if err := f.conn.FlushSaved(saved[0].Context()); err != nil {
		t.Error(err)
	}
	if err := session.Save(); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	for _, s := range append(saved[1:], session) {
		if err := s.Restore(f.key); err != nil {
			t.Fatal(err)
		}
		mustSign(t, f.conn, f.key, s)
		s.Close()
		f.conn.EndSessions()
	}
	wantSaved(t, f.tap)
}
