package tpm20_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// Command codes, for counting.
const (
	ccStart   = uint32(tpm2.TPMCCStartAuthSession)
	ccSign    = uint32(tpm2.TPMCCSign)
	ccFlush   = uint32(tpm2.TPMCCFlushContext)
	ccDecrypt = uint32(tpm2.TPMCCRSADecrypt)
	ccSave    = uint32(tpm2.TPMCCContextSave)
	ccLoad    = uint32(tpm2.TPMCCContextLoad)
)

func commands(tap *tpmtest.Tap) []uint32 {
	var out []uint32
	for _, e := range tap.Exchanges() {
		out = append(out, e.Ordinal)
	}
	return out
}

func wantCommands(t testing.TB, tap *tpmtest.Tap, want ...uint32) {
	t.Helper()
	if got := commands(tap); !slices.Equal(got, want) {
		t.Errorf("commands %#x, want %#x", got, want)
	}
	tap.Reset()
}

// wantLoaded asks the TPM, by a Conn of its own, how much is loaded.
func wantLoaded(t testing.TB, tap *tpmtest.Tap, objects, sessions int) {
	t.Helper()
	other := tpm20.New(tap)
	for first, want := range map[tpm2.TPMHandle]int{0x80000000: objects, 0x02000000: sessions} {
		if got, err := other.Handles(first); err != nil || len(got) != want {
			t.Errorf("%#x are loaded, want %d (%v)", got, want, err)
		}
	}
}

// fixture is a key with the secret "pw".
type fixture struct {
	t       *testing.T
	conn    *tpm20.Conn
	tap     *tpmtest.Tap
	parent  *tpm20.Object
	key     *tpm20.Object
	session *tpm20.Session
}

func newFixture(t *testing.T) *fixture {
	conn, tap := open(t)
	return fixtureOn(t, conn, tap)
}

func fixtureOn(t *testing.T, conn *tpm20.Conn, tap *tpmtest.Tap) *fixture {
	f := &fixture{t: t, conn: conn, tap: tap, parent: primary(t, conn, false)}
	f.key = create(t, conn, f.parent, eccKey, "pw")
	conn.EndSessions()
	f.warm()
	tap.Reset()
	return f
}

// warm lets the TPM test itself, which it puts off until something is signed.
func (f *fixture) warm() {
	if _, err := f.conn.Sign(f.key, tpm2.PasswordAuth([]byte("pw")), ecdsaSHA256, message[:], nil); err != nil {
		f.t.Fatal(err)
	}
}

// sign signs by the fixture's session, which it starts where there is none.
func (f *fixture) sign(secret string) error {
	if !f.session.Alive() {
		var err error
		if f.session, err = f.conn.StartHMAC(f.parent, nil, nil); err != nil {
			return err
		}
	}
	sig, err := f.conn.Sign(f.key, f.session.For([]byte(secret), 0), ecdsaSHA256, message[:], nil)
	if err == nil {
		verify(f.t, f.key, message[:], sig)
	}
	return err
}

func (f *fixture) mustSign() {
	f.t.Helper()
	if err := f.sign("pw"); err != nil {
		f.t.Fatal(err)
	}
}

func TestSessionGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 20 {
		f.mustSign()
	}
	want := append([]uint32{ccStart}, slices.Repeat([]uint32{ccSign}, 20)...)
	log := f.tap.Exchanges()
	wantCommands(t, f.tap, want...)
	// A nonce that came twice would make a command repeatable.
	seen := map[string]bool{}
	for _, e := range log[1:] {
		const area = 10 + 4 + 4 // header, handle, size
		caller := e.Command[area+4+2:][:16]
		size := binary.BigEndian.Uint32(e.Response[10:])
		even := e.Response[10+4+size+2:][:16]
		if seen[string(caller)] || seen[string(even)] {
			t.Errorf("a nonce again: %x or %x", caller, even)
		}
		seen[string(caller)], seen[string(even)] = true, true
	}
	first := f.session
	first.Close()
	first.Close()
	wantCommands(t, f.tap) // nothing yet
	if _, err := f.conn.Sign(f.key, first.For([]byte("pw"), 0), ecdsaSHA256, message[:], nil); !errors.Is(err, tpm20.ErrSessionEnded) {
		t.Error(err)
	}
	wantLoaded(t, f.tap, 2, 1)
	f.tap.Reset()
	f.mustSign()
	wantCommands(t, f.tap, ccFlush, ccStart, ccSign)
	kept := f.session
	f.session = nil
	f.mustSign()
	wantLoaded(t, f.tap, 2, 2)
	f.conn.EndSessions(kept)
	if !kept.Alive() || f.session.Alive() || !f.conn.Holds() {
		t.Error("other sessions than the one to keep")
	}
	wantLoaded(t, f.tap, 2, 1)
	f.conn.EndSessions()
	f.tap.Reset()
	f.conn.EndSessions()
	wantCommands(t, f.tap)
	wantLoaded(t, f.tap, 2, 0)
	if f.conn.Holds() {
		t.Error("holds sessions, and has ended all")
	}
}

// A Conn knows which sessions in the TPM are its own, as far as it can.
func TestOwnSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.wantOwn("loaded", 0, 0, false)
	f.mustSign()
	f.wantOwn("signed", 1, 1, true)
	bound := mustStart(f.conn.StartHMAC(nil, f.key, []byte("pw")))
	f.wantOwn("bound", 2, 2, true)
	f.conn.EndShared()
	f.wantOwn("shared ended", 1, 1, true)
	if f.session.Alive() || !bound.Alive() {
		t.Error("other sessions than the shared ones ended")
	}
	bound.Close()
	f.wantOwn("closed", 1, 0, true)
	f.conn.EndSessions()
	f.wantOwn("ended", 0, 0, false)
	f.mustSign()
	if _, err := tpm20.Run(f.conn, tpm2.FlushContext{FlushHandle: f.session.Handle()}); err != nil || f.session.Alive() {
		t.Error(err)
	}
	f.wantOwn("flushed by Run", 0, 0, false)
	f.mustSign()
	tpm20.New(f.tap).Flush(f.session.Handle())
	f.wantOwn("flushed by somebody", 0, 0, true)
	if err := f.conn.Flush(f.session.Handle()); err != nil || f.session.Alive() {
		t.Error("flushed already: ", err)
	}
	f.wantOwn("noticed", 0, 0, false)
	f.mustSign()
	mustStart(f.conn.StartPolicy(tpm2.TPMAlgSHA256, nil)).Close()
	f.conn.Forget()
	f.wantOwn("forgotten", 2, 0, false)
	if f.session.Alive() {
		t.Error("forgotten, and alive")
	}
}

// wantOwn counts the sessions in the TPM, and those that the Conn owns.
func (f *fixture) wantOwn(step string, all, own int, holds bool) {
	f.t.Helper()
	open, err := tpm20.New(f.tap).Handles(0x02000000)
	n := 0
	for _, h := range open {
		if f.conn.Owns(uint32(h)) {
			n++
		}
	}
	if err != nil || len(open) != all || n != own || f.conn.Holds() != holds {
		f.t.Errorf("%s: %d of %d sessions are its own, want %d of %d; holds %v, %v", step, n, len(open), own, all, f.conn.Holds(), err)
	}
}

// A wrong secret costs one try and one command, and the session goes on.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, rolled := range []bool{false, true} {
		before := tries(t, f.conn)
		if rolled {
			f.mustSign()
		} else {
			f.session = session(t, f.conn, f.parent)
		}
		f.tap.Reset()
		err := f.sign("wrong")
		wantCommands(t, f.tap, ccSign)
		var refused *tpm20.Error
		if !errors.As(err, &refused) || !errors.Is(err, tpm2.TPMRCAuthFail) {
			t.Errorf("%v, %+v", err, refused)
		}
		if got := tries(t, f.conn); got != before+1 {
			t.Errorf("%d tries counted, there were %d", got, before)
		}
		f.tap.Reset()
		f.mustSign()
		wantCommands(t, f.tap, ccSign)
		f.session.Close()
		f.conn.EndSessions()
	}
	bound := mustStart(f.conn.StartHMAC(nil, f.key, []byte("wrong")))
	before := tries(t, f.conn)
	var refused *tpm20.Error
	if _, err := f.conn.Sign(f.key, bound.For(nil, 0), ecdsaSHA256, message[:], nil); !errors.As(err, &refused) || !errors.Is(err, tpm2.TPMRCAuthFail) {
		t.Error(err)
	}
	if got := tries(t, f.conn); got != before+1 {
		t.Errorf("%d tries counted, there were %d", got, before)
	}
	f.conn.EndSessions()
	wantLoaded(t, f.tap, 2, 0)
}

func tries(t testing.TB, conn *tpm20.Conn) uint32 {
	t.Helper()
	p, err := conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		t.Fatal(err)
	}
	return p[tpm2.TPMPTLockoutCounter]
}
