package tpm20_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// A saver is a fixture whose TPM can be restarted. Its key has a policy that asks for
// its secret.
type saver struct {
	*fixture
	sw              *tpmtest.SWTPM
	device          *swappable
	private, public []byte // the key's
	context         []byte
}

func newSaver(t *testing.T) *saver {
	t.Helper()
	s := &saver{fixture: &fixture{t: t}, sw: tpmtest.Start(t, tpmtest.TPM20), device: &swappable{}}
	s.device.tap = dial(t, s.sw)
	s.tap = s.device.tap
	s.conn = tpm20.New(s.device)
	s.parent = primary(t, s.conn, false)
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := (tpm2.PolicyAuthValue{}).Update(calculator); err != nil {
		t.Fatal(err)
	}
	template := eccKey
	template.AuthPolicy.Buffer = calculator.Hash().Digest
	s.private, s.public = createBlobs(t, s.conn, s.parent, template, "pw", nil)
	s.conn.EndSessions()
	s.load(s.private, s.public)
	s.warm()
	if s.context, err = s.conn.SaveContext(s.key); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect connects to the TPM anew.
func (s *saver) connect() {
	s.t.Helper()
	s.tap = dial(s.t, s.sw)
	s.device.tap = s.tap
}

// reload loads the key from its context.
func (s *saver) reload() {
	s.t.Helper()
	var err error
	if s.key, err = s.conn.LoadContext(s.context, s.key); err != nil {
		s.t.Fatal(err)
	}
}

func (s *saver) flushKey() {
	s.t.Helper()
	if err := s.conn.Flush(s.key.Handle); err != nil {
		s.t.Fatal(err)
	}
}

// A savedKind is a kind of session, and how it signs.
type savedKind struct {
	name  string
	start func(*saver) (*tpm20.Session, error)
	auth  string
	ready func(*saver, *tpm20.Session) // before each signature
}

// needAuth runs the key's policy.
func needAuth(s *saver, session *tpm20.Session) {
	s.t.Helper()
	if _, err := tpm20.Run(s.conn, tpm2.PolicyAuthValue{PolicySession: session.Handle()}); err != nil {
		s.t.Fatal(err)
	}
	session.NeedAuthValue()
}

var savedKinds = []savedKind{
	{name: "unsalted", auth: "pw", start: func(s *saver) (*tpm20.Session, error) { return s.conn.StartHMAC(nil, nil, nil) }},
	{name: "salted", auth: "pw", start: func(s *saver) (*tpm20.Session, error) { return s.conn.StartHMAC(s.parent, nil, nil) }},
	{name: "bound", start: func(s *saver) (*tpm20.Session, error) { return s.conn.StartHMAC(s.parent, s.key, []byte("pw")) }},
	{name: "policy", auth: "pw", ready: needAuth, start: func(s *saver) (*tpm20.Session, error) { return s.conn.StartPolicy(tpm2.TPMAlgSHA256, nil) }},
	{name: "salted policy", auth: "pw", ready: needAuth, start: func(s *saver) (*tpm20.Session, error) { return s.conn.StartPolicy(tpm2.TPMAlgSHA256, s.parent) }},
}

// prepare does what comes before a signature.
func (k savedKind) prepare(s *saver, session *tpm20.Session) {
	if k.ready != nil {
		k.ready(s, session)
	}
}

// use signs by a session that is prepared.
func (k savedKind) use(s *saver, session *tpm20.Session) error {
	sig, err := s.conn.Sign(s.key, session.For([]byte(k.auth), 0), ecdsaSHA256, message[:], nil)
	if err == nil {
		verify(s.t, s.key, message[:], sig)
	}
	return err
}

func (k savedKind) mustUse(s *saver, session *tpm20.Session) {
	s.t.Helper()
	if err := k.use(s, session); err != nil {
		s.t.Fatal(err)
	}
}

// wantSaved asks the TPM, by a Conn of its own, which sessions are saved.
func wantSaved(t testing.TB, tap *tpmtest.Tap, want ...tpm2.TPMHandle) {
	t.Helper()
	const index = 0xffffff // in the list a policy's session has the other kind's number
	got, err := tpm20.New(tap).Handles(0x03000000)
	same := err == nil && len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = got[i]&index == want[i]&index
	}
	if !same {
		t.Errorf("saved sessions %#x, %v; want %#x", got, err, want)
	}
}

// save saves the only session there is.
func (s *saver) save(session *tpm20.Session) {
	s.t.Helper()
	if err := session.Save(); err != nil {
		s.t.Fatal(err)
	}
	if session.Alive() || !session.Saved() || s.conn.Holds() || s.conn.Owns(uint32(session.Handle())) {
		s.t.Errorf("saved; alive %v, saved %v, held %v", session.Alive(), session.Saved(), s.conn.Holds())
	}
	wantLoaded(s.t, s.tap, 2, 0)
	wantSaved(s.t, s.tap, tpm2.TPMHandle(session.Context()))
	if _, err := s.conn.Sign(s.key, session.For([]byte("pw"), 0), ecdsaSHA256, message[:], nil); !errors.Is(err, tpm20.ErrSessionEnded) {
		s.t.Errorf("saved: %v", err)
	}
}

// saved is a session that is saved.
func (s *saver) saved() *tpm20.Session {
	s.t.Helper()
	session := session(s.t, s.conn, s.parent)
	savedKinds[1].mustUse(s, session)
	s.save(session)
	return session
}

func (s *saver) restore(session *tpm20.Session) {
	s.t.Helper()
	handle := session.Handle()
	if err := session.Restore(); err != nil {
		s.t.Fatal(err)
	}
	if !session.Alive() || session.Saved() || !s.conn.Owns(uint32(handle)) || session.Handle() != handle {
		s.t.Errorf("restored; alive %v, saved %v, owned %v", session.Alive(), session.Saved(), s.conn.Owns(uint32(handle)))
	}
	wantSaved(s.t, s.tap)
	if open, err := s.conn.Handles(0x02000000); err != nil || len(open) != 1 || open[0] != handle {
		s.t.Errorf("restored: sessions %#x, %v", open, err)
	}
}

// meanwhiles are what is done while a session is saved.
var meanwhiles = map[string]func(*saver){
	"nothing":     func(*saver) {},
	"key flushed": func(s *saver) { s.flushKey(); s.reload() },
	"key moved": func(s *saver) {
		before := s.key.Handle
		s.reload()
		if s.key.Handle == before {
			s.t.Fatal("two keys have a handle")
		}
		s.conn.Flush(before)
	},
	"sessions ended": func(s *saver) { s.conn.EndSessions(); s.conn.EndShared() },
	"another session": func(s *saver) {
		s.session = nil
		s.mustSign()
		s.conn.EndSessions()
	},
	"forgotten":      func(s *saver) { s.conn.Forget() },
	"connected anew": func(s *saver) { s.tap.Close(); s.connect() },
}

// A saved session authorizes again once it is restored, whatever was done meanwhile.
func TestSavedSession(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range meanwhiles {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t)
			for _, kind := range savedKinds {
				session := mustStart(kind.start(s))
				for range 3 {
					kind.prepare(s, session)
					kind.mustUse(s, session)
					kind.prepare(s, session) // and what the policy has come to is saved
					s.save(session)
					meanwhile(s)
					s.restore(session)
					kind.mustUse(s, session)
				}
				s.conn.EndSessions()
				wantLoaded(t, s.tap, 2, 0)
				wantSaved(t, s.tap)
			}
		})
	}
}

// A restored session encrypts, too.
func TestRestoredSessionEncrypts(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	session := s.saved()
	s.restore(session)
	s.tap.Reset()
	rsp, err := tpm20.Run(s.conn, tpm2.GetRandom{BytesRequested: 16}, session.For(nil, tpm20.EncryptOut))
	if err != nil || len(rsp.RandomBytes.Buffer) != 16 {
		t.Fatal(rsp, err)
	}
	wantHidden(t, s.tap, map[string][]byte{"random number": rsp.RandomBytes.Buffer})
}

// The context of a session loads once.
func TestSavedSessionLoadsOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range savedKinds {
		s := newSaver(t)
		session := mustStart(kind.start(s))
		kind.prepare(s, session)
		s.save(session)
		s.tap.Reset()
		s.restore(session)
		again := s.tap.Exchanges()[0]
		refused := func() {
			t.Helper()
			const handle = tpm2.TPMRC(0x1cb) // TPM_RC_HANDLE of parameter 1
			rsp, err := s.tap.Send(again.Command)
			if err != nil || again.Ordinal != ccLoad || tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:])) != handle {
				t.Errorf("%s: loaded again: %x, %v", kind.name, rsp, err)
			}
		}
		refused()
		kind.mustUse(s, session)
		s.save(session)
		refused()
		s.restore(session)
		kind.prepare(s, session)
		kind.mustUse(s, session)
		s.conn.EndSessions()
		refused()
		wantLoaded(t, s.tap, 2, 0)
		wantSaved(t, s.tap)
	}
}

// wantLost checks that a session is of no use any more.
func (s *saver) wantLost(session *tpm20.Session) {
	s.t.Helper()
	if session.Alive() || session.Saved() || s.conn.Owns(uint32(session.Handle())) {
		s.t.Errorf("lost; alive %v, saved %v", session.Alive(), session.Saved())
	}
	for name, err := range map[string]error{
		"Save": session.Save(), "Restore": session.Restore(), "Sign": savedKinds[1].use(s, session),
	} {
		if !errors.Is(err, tpm20.ErrSessionEnded) {
			s.t.Errorf("%s of a lost session: %v", name, err)
		}
	}
}

// lossesOfSaved are why a saved session cannot be restored.
var lossesOfSaved = []struct {
	name  string
	code  tpm2.TPMRC
	cause func(*saver, *tpm20.Session)
}{
	{"freed", tpm2.TPMRCHandle, func(s *saver, session *tpm20.Session) {
		if err := tpm20.New(s.tap).Flush(session.Handle()); err != nil {
			s.t.Error(err)
		}
	}},
	{"freed by its number in the list", tpm2.TPMRCHandle, func(s *saver, session *tpm20.Session) {
		if err := tpm20.New(s.tap).Flush(tpm2.TPMHandle(session.Context())); err != nil {
			s.t.Error(err)
		}
	}},
	{"TPM restarted", tpm2.TPMRCIntegrity, func(s *saver, _ *tpm20.Session) { s.restart() }},
	{"TPM restarted, and another has its handle", tpm2.TPMRCIntegrity, func(s *saver, session *tpm20.Session) {
		s.restart()
		other := mustStart(tpm20.New(s.tap).StartHMAC(nil, nil, nil))
		if err := other.Save(); err != nil || other.Handle() != session.Handle() {
			s.t.Fatalf("%#x, want %#x: %v", other.Handle(), session.Handle(), err)
		}
		s.t.Cleanup(func() {
			if err := other.Restore(); err != nil {
				s.t.Error("the other one's:", err)
			}
		})
	}},
}

// A session that cannot be restored is lost.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	for _, loss := range lossesOfSaved {
		t.Run(loss.name, func(t *testing.T) {
			s := newSaver(t)
			session := s.saved()
			loss.cause(s, session)
			if err := session.Restore(); !errors.Is(err, loss.code) {
				t.Errorf("%v, want %v", err, loss.code)
			}
			s.conn.EndSessions()
			s.wantLost(session)
		})
	}
}

// restart restarts the TPM, and loads the key again.
func (s *saver) restart() {
	s.t.Helper()
	s.tap.Close()
	s.sw.Restart()
	s.connect()
	clearLockout(s.t, s.tap)
	s.parent = primary(s.t, s.conn, false)
	s.load(s.private, s.public)
}

// A session stays saved if the TPM has no slot for it now.
func TestRestoreWithoutRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code  tpm2.TPMRC
		cause func(*saver) (free func())
	}{
		"full": {code: tpm2.TPMRCSessionMemory, cause: func(s *saver) func() {
			other := tpm20.New(s.tap)
			for err := error(nil); err == nil; {
				_, err = other.StartHMAC(nil, nil, nil)
			}
			return func() { other.EndSessions() }
		}},
		"gap": {code: tpm2.TPMRCContextGap, cause: func(s *saver) func() {
			s.refuseOn(ccLoad, tpm2.TPMRCContextGap, 1)
			return func() { s.on(ccLoad, nil, nil) }
		}},
	} {
		s := newSaver(t)
		session := s.saved()
		free := c.cause(s)
		if err := session.Restore(); !errors.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
		if session.Alive() || !session.Saved() || s.conn.Holds() {
			t.Errorf("%s: alive %v, saved %v", name, session.Alive(), session.Saved())
		}
		wantSaved(t, s.tap, session.Handle())
		free()
		s.restore(session)
		savedKinds[1].mustUse(s, session)
	}
}

// Saving sessions frees slots for others: a TPM loads 3, and knows 64.
func TestManySavedSessions(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	var saved []*tpm20.Session
	var err error
	for len(saved) < 1000 {
		var session *tpm20.Session
		if session, err = s.conn.StartHMAC(nil, nil, nil); err != nil {
			break
		}
		if err := session.Save(); err != nil {
			t.Fatal(err)
		}
		saved = append(saved, session)
	}
	if !errors.Is(err, tpm2.TPMRCSessionHandles) || len(saved) != 64 {
		t.Errorf("%d sessions: %v", len(saved), err)
	}
	if err := s.conn.Flush(saved[0].Handle()); err != nil {
		t.Error(err)
	}
	for _, session := range saved[1:] {
		if err := session.Restore(); err != nil {
			t.Fatal(err)
		}
		savedKinds[0].mustUse(s, session)
		session.Close()
		s.conn.EndSessions()
	}
	wantSaved(t, s.tap)
}

// Save and Restore send nothing if they are called in the wrong order.
func TestSaveAndRestoreInTheWrongOrder(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	session := session(t, s.conn, s.parent)
	refused := func(what string, f func() error) {
		t.Helper()
		s.tap.Reset()
		if err := f(); !errors.Is(err, tpm20.ErrSessionEnded) {
			t.Errorf("%s: %v", what, err)
		}
		wantCommands(t, s.tap)
	}
	refused("Restore before Save", session.Restore)
	s.save(session)
	refused("Save twice", session.Save)
	if !session.Saved() {
		t.Error("the second Save lost it")
	}
	s.restore(session)
	refused("Restore twice", session.Restore)
	savedKinds[1].mustUse(s, session)
	s.save(session)
	s.tap.Reset()
	session.Close()
	session.Close()
	s.conn.EndSessions()
	wantCommands(t, s.tap) // who saved it frees it
	refused("Restore of a closed session", session.Restore)
	s.wantLost(session)
	wantSaved(t, s.tap, session.Handle())
	if err := s.conn.Flush(session.Handle()); err != nil {
		t.Error(err)
	}
	wantSaved(t, s.tap)
	var none *tpm20.Session
	refused("Save of none", none.Save)
	refused("Restore of none", none.Restore)
}

// unanswered are commands without an answer that can be trusted.
var unanswered = map[string]struct{ before, after func([]byte) ([]byte, error) }{
	"command lost": {before: func([]byte) ([]byte, error) { return nil, errLost }},
	"reply lost":   {after: func([]byte) ([]byte, error) { return nil, errLost }},
	"reply cut":    {after: func(rsp []byte) ([]byte, error) { return rsp[:len(rsp)-1], nil }},
	"shorter":      {after: func(rsp []byte) ([]byte, error) { return resized(rsp[:len(rsp)-1]), nil }},
	"longer":       {after: func(rsp []byte) ([]byte, error) { return resized(append(rsp, 0)), nil }},
	"empty":        {after: func(rsp []byte) ([]byte, error) { return resized(rsp[:10]), nil }},
}

func wantUnanswered(t *testing.T, err error) {
	t.Helper()
	var unanswered *tpm20.Unanswered
	if !errors.As(err, &unanswered) || unanswered.Secret || isRefused(err) {
		t.Errorf("%v, want no answer", err)
	}
}

// A session whose Save had no answer is in the TPM, or ends when it is used next.
func TestSaveUnanswered(t *testing.T) {
	t.Parallel()
	for name, how := range unanswered {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t)
			session := session(t, s.conn, s.parent)
			s.on(ccSave, how.before, how.after)
			wantUnanswered(t, session.Save())
			s.on(ccSave, nil, nil)
			if session.Saved() {
				t.Error("it has no context, and is saved")
			}
			if err := savedKinds[1].use(s, session); (err == nil) != session.Alive() {
				t.Errorf("%v, alive %v", err, session.Alive())
			}
			s.conn.EndSessions()
			wantLoaded(t, s.tap, 2, 0)
			s.mustSign()
		})
	}
}

// A session whose Restore had no answer, or another session's, is lost.
func TestRestoreUnanswered(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, before, after func([]byte) ([]byte, error)) {
		s := newSaver(t)
		session := s.saved()
		s.on(ccLoad, before, after)
		wantUnanswered(t, session.Restore())
		s.on(ccLoad, nil, nil)
		s.conn.EndSessions()
		s.wantLost(session)
		s.mustSign()
	}
	for name, how := range unanswered {
		t.Run(name, func(t *testing.T) { test(t, how.before, how.after) })
	}
	for name, handle := range map[string]tpm2.TPMHandle{
		"another session": 0x02000001, "a policy's session": 0x03000000, "an object": 0x80000001, "none": 0,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(rsp []byte) ([]byte, error) {
				binary.BigEndian.PutUint32(rsp[10:], uint32(handle))
				return rsp, nil
			})
		})
	}
}

// Save of a session that somebody flushed ends it.
func TestSaveOfAFlushedSession(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	session := session(t, s.conn, s.parent)
	if err := tpm20.New(s.tap).Flush(session.Handle()); err != nil {
		t.Fatal(err)
	}
	if err := session.Save(); !errors.Is(err, tpm2.TPMRCReferenceH0) || s.conn.Holds() {
		t.Error(err)
	}
	s.wantLost(session)
}

// The list of saved sessions has the number of each, whatever its kind.
func TestContextIsTheNumberInTheList(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	for _, kind := range savedKinds {
		session := mustStart(kind.start(s))
		kind.prepare(s, session)
		s.save(session)
		if listed, err := s.conn.Handles(0x03000000); err != nil || len(listed) != 1 || uint32(listed[0]) != session.Context() {
			t.Errorf("%s: %#x are listed, not %#x: %v", kind.name, listed, session.Context(), err)
		}
		s.restore(session)
		s.conn.EndSessions()
	}
}
