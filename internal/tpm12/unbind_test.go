package tpm12_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// An authKind is a way to authorize one command.
type authKind struct {
	name string
	keep bool
	auth func(*fixture) tpm12.Auth
	sent []uint32 // by UnBindLast
}

var authKinds = []authKind{
	{name: "secret", sent: []uint32{ordOIAP, ordUnBind}, auth: func(f *fixture) tpm12.Auth { return f.secret }},
	{name: "secret kept", keep: true, sent: []uint32{ordOIAP, ordUnBind}, auth: func(f *fixture) tpm12.Auth { return f.secret }},
	{name: "secret in a session that rolled", keep: true, sent: []uint32{ordUnBind}, auth: func(f *fixture) tpm12.Auth {
		mustSign(f.t, f.conn, f.key, f.secret)
		return f.secret
	}},
	{name: "session", sent: []uint32{ordUnBind}, auth: func(f *fixture) tpm12.Auth { return f.open() }},
	{name: "session that rolled", sent: []uint32{ordUnBind}, auth: func(f *fixture) tpm12.Auth {
		session := f.open()
		mustSign(f.t, f.conn, f.key, session)
		return session
	}},
}

// eachAuth runs a test by each kind, on one TPM.
func eachAuth(t *testing.T, test func(*fixture, authKind)) {
	conn, tap := open(t, tpmtest.Tutorial)
	key, secret := loadSecretKey(t, conn)
	for _, kind := range authKinds {
		t.Run(kind.name, func(t *testing.T) {
			f := &fixture{conn: conn, tap: tap, key: key, secret: secret, t: t}
			conn.Keep(kind.keep)
			test(f, kind)
			f.conn.EndSessions()
			wantSessions(t, tap, 0)
		})
	}
}

// unBindLast decrypts once by auth.
func (f *fixture) unBindLast(ciphertext []byte, auth tpm12.Auth) ([]byte, error) {
	f.t.Helper()
	f.tap.Reset()
	plain, err := f.conn.UnBindLast(f.key, ciphertext, auth)
	if session, ok := auth.(*tpm12.KeySession); ok && session.Alive() {
		f.t.Error("the session is alive after its last use")
	}
	return plain, err
}

// afterwards returns what the next signature sends, with the commands' sizes.
func (f *fixture) afterwards() (ordinals []uint32, sizes []int) {
	f.t.Helper()
	f.tap.Reset()
	mustSign(f.t, f.conn, f.key, f.secret)
	for _, e := range f.tap.Exchanges() {
		ordinals, sizes = append(ordinals, e.Ordinal), append(sizes, len(e.Command))
	}
	return ordinals, sizes
}

// A good ciphertext and a bad one end the session alike, and what is sent afterwards
// does not tell them apart.
func TestUnBindLast(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	good := tpmtest.Fixture(t, "tpm12-tutorial/auth.bound")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	ciphertexts := []struct {
		name string
		data []byte
		code tpm12.ResultCode
	}{
		{"good", good, 0}, {"zeros", make([]byte, 256), tpm12.DecryptError}, {"flipped", flipped, tpm12.DecryptError},
		{"somebody else's", tpmtest.Fixture(t, "tpm12-tutorial/maclef.bound"), tpm12.DecryptError},
		{"short", good[1:], tpm12.DecryptError}, {"long", append(bytes.Clone(good), 0), tpm12.BadDataSize},
		{"empty", nil, tpm12.BadParameter},
	}
	eachAuth(t, func(f *fixture, kind authKind) {
		var sent []uint32
		var sizes []int
		for _, c := range ciphertexts {
			plain, err := f.unBindLast(c.data, kind.auth(f))
			var refused *tpm12.Error
			if c.code == tpm12.DecryptError && err == nil && tpmtest.ImplicitRejection() {
				plain, c.code = []byte("bonjour"), 0 // it is random
			}
			if c.code == 0 && (err != nil || string(plain) != "bonjour") ||
				c.code != 0 && (!errors.As(err, &refused) || refused.Code != c.code) {
				f.t.Errorf("%s: %q, %v", c.name, plain, err)
			}
			wantCommands(f.t, f.tap, kind.sent...)
			wantSessions(f.t, f.tap, 0)
			if f.conn.Holds() {
				f.t.Errorf("%s: holds sessions", c.name)
			}
			o, s := f.afterwards()
			if sent == nil {
				sent, sizes = o, s
			}
			if !slices.Equal(o, []uint32{ordOIAP, ordSign}) || !slices.Equal(o, sent) || !slices.Equal(s, sizes) {
				f.t.Errorf("%s: commands %#x of %d bytes afterwards", c.name, o, s)
			}
			f.conn.EndSessions()
		}
	})
}

// mayBeOpen are the ends of UnBindLast after which the session may be open.
var mayBeOpen = []struct {
	name          string
	code          tpm12.ResultCode // 0: no answer
	before, after func([]byte) ([]byte, error)
	left          int // sessions in the TPM
}{
	{name: "disabled", code: tpm12.Disabled, left: 1},
	{name: "deactivated", code: tpm12.Deactivated, left: 1},
	{name: "no SRK", code: tpm12.NoSRK, left: 1},
	{name: "locked", code: tpm12.DefendLockRunning, left: 1},
	{name: "busy", code: tpm12.Retry, left: 1},
	{name: "command lost", left: 1, before: func([]byte) ([]byte, error) { return nil, errLost }},
	{name: "reply lost", after: func([]byte) ([]byte, error) { return nil, errLost }},
	{name: "reply cut", after: func(rsp []byte) ([]byte, error) { return rsp[:40], nil }},
	{name: "reply changed", after: func(rsp []byte) ([]byte, error) { rsp[15] ^= 1; return rsp, nil }},
	{name: "goes on", after: func(rsp []byte) ([]byte, error) { rsp[len(rsp)-21] ^= 1; return rsp, nil }},
}

// After no answer, and after an error reply from before the TPM checks the session, the session
// is flushed before the next one is opened.
func TestUnBindLastThatMayBeOpen(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	eachAuth(t, func(f *fixture, kind authKind) {
		f.conn.Patience = 0
		for _, c := range mayBeOpen {
			auth := kind.auth(f)
			f.on(ordUnBind, c.before, c.after)
			if c.code != 0 {
				f.refuse(ordUnBind, c.code)
			}
			_, err := f.unBindLast(tpmtest.Fixture(f.t, "tpm12-tutorial/auth.bound"), auth)
			f.on(ordUnBind, nil, nil)
			if err == nil || c.code != 0 && !errors.Is(err, c.code) || c.code == 0 && !isUnanswered(err) {
				f.t.Errorf("%s: %v", c.name, err)
			}
			wantCommands(f.t, f.tap, kind.sent...)
			wantSessions(f.t, f.tap, c.left)
			if sent, _ := f.afterwards(); !slices.Equal(sent, []uint32{ordFlush, ordOIAP, ordSign}) {
				f.t.Errorf("%s: commands %#x afterwards", c.name, sent)
			}
			f.conn.EndSessions()
			wantSessions(f.t, f.tap, 0)
		}
	})
}

func isUnanswered(err error) bool {
	var unanswered *tpm12.Unanswered
	return errors.As(err, &unanswered) && unanswered.Secret
}

// The same with a TPM that refuses by itself.
func TestUnBindLastRefused(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	cures := map[tpm12.ResultCode]func(*fixture) error{
		tpm12.DefendLockRunning: func(f *fixture) error { return f.conn.ResetLockValue(wellKnown) },
		tpm12.Disabled:          func(f *fixture) error { return f.conn.OwnerSetDisable(false, wellKnown) },
	}
	eachAuth(t, func(f *fixture, kind authKind) {
		for code, cause := range map[tpm12.ResultCode]func(*fixture){
			tpm12.DefendLockRunning: (*fixture).lock,
			tpm12.Disabled: func(f *fixture) {
				if err := tpm12.New(f.tap).OwnerSetDisable(true, wellKnown); err != nil {
					f.t.Fatal(err)
				}
			},
		} {
			err := error(nil)
			for range 10 { // a lock may end before its time
				auth := kind.auth(f)
				cause(f)
				if _, err = f.unBindLast(tpmtest.Fixture(f.t, "tpm12-tutorial/auth.bound"), auth); err != nil {
					break
				}
			}
			if !errors.Is(err, code) || !f.conn.Holds() {
				f.t.Errorf("%v, want %v", err, code)
			}
			if err := cures[code](f); err != nil {
				f.t.Fatal(err)
			}
			wantSessions(f.t, f.tap, 0)
			mustSign(f.t, f.conn, f.key, f.secret)
		}
	})
}

// lock gives wrong secrets until the TPM is locked.
func (f *fixture) lock() {
	f.t.Helper()
	for err := error(nil); !errors.Is(err, tpm12.DefendLockRunning); {
		other := tpm12.New(f.tap)
		if err = signFox(f.t, other, f.key, wellKnown); err == nil {
			f.t.Fatal("signed by a wrong secret")
		}
		other.EndSessions()
	}
}
