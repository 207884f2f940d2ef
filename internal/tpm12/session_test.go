package tpm12_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// Ordinals, for counting.
const (
	ordOIAP        = 0x0a
	ordOSAP        = 0x0b
	ordUnBind      = 0x1e
	ordSign        = 0x3c
	ordSaveContext = 0xb8
	ordLoadContext = 0xb9
	ordFlush       = 0xba
)

// secretKey is the tutorial's key with a secret, and that secret.
func secretKey(t testing.TB) ([]byte, *tpm12.Secret) {
	t.Helper()
	k, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/auth"))
	if err != nil {
		t.Fatal(err)
	}
	secret := tpm12.Secret(sha1.Sum([]byte("motdepasse")))
	return k.(*blob.TPMKey).Bytes(), &secret
}

// loadSecretKey loads it.
func loadSecretKey(t testing.TB, conn *tpm12.Conn) (tpm12.Handle, *tpm12.Secret) {
	t.Helper()
	key, secret := secretKey(t)
	h, err := conn.LoadKey2(tpm12.SRK, key, tutorialSRK())
	if err != nil {
		t.Fatal(err)
	}
	return h, secret
}

// signFox signs what OpenSSL has signed with the same key, and compares.
func signFox(t testing.TB, conn *tpm12.Conn, key tpm12.Handle, auth tpm12.Auth) error {
	t.Helper()
	digest := sha256.Sum256(tpmtest.Fixture(t, "tpm12-tutorial/fox.txt"))
	info := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
	sig, err := conn.Sign(key, info, auth)
	if err == nil && !bytes.Equal(sig, tpmtest.Fixture(t, "tpm12-tutorial/auth.sha256.sig")) {
		t.Errorf("another signature: %x", sig)
	}
	return err
}

func mustSign(t testing.TB, conn *tpm12.Conn, key tpm12.Handle, auth tpm12.Auth) {
	t.Helper()
	if err := signFox(t, conn, key, auth); err != nil {
		t.Fatal(err)
	}
}

// wantSessions asks the TPM by a Conn of its own.
func wantSessions(t testing.TB, tap *tpmtest.Tap, want int) {
	t.Helper()
	if got, err := tpm12.New(tap).Sessions(); err != nil || len(got) != want {
		t.Errorf("sessions %#x, %v; want %d", got, err, want)
	}
}

func ordinals(tap *tpmtest.Tap) []uint32 {
	var out []uint32
	for _, e := range tap.Exchanges() {
		out = append(out, e.Ordinal)
	}
	return out
}

func wantCommands(t testing.TB, tap *tpmtest.Tap, want ...uint32) {
	t.Helper()
	if got := ordinals(tap); !slices.Equal(got, want) {
		t.Errorf("commands %#x, want %#x", got, want)
	}
	tap.Reset()
}

func TestRollingSession(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	key, secret := loadSecretKey(t, conn)
	wantSessions(t, tap, 0)
	tap.Reset()
	for range 3 {
		mustSign(t, conn, key, secret)
	}
	wantCommands(t, tap, ordOIAP, ordSign, ordOIAP, ordSign, ordOIAP, ordSign)
	wantSessions(t, tap, 0)
	conn.Keep(true)
	tap.Reset()
	const n = 50
	for range n {
		mustSign(t, conn, key, secret)
		if _, err := conn.GetPubKey(tpm12.SRK, tutorialSRK()); err != nil { // another secret in between
			t.Fatal(err)
		}
	}
	if got := tap.Count(); got != 2*n+1 || tap.Count(ordOIAP) != 1 {
		t.Errorf("%d commands for %d", got, 2*n)
	}
	wantSessions(t, tap, 1)
	tap.Reset()
	conn.EndSessions()
	conn.EndSessions()
	wantCommands(t, tap, ordFlush)
	wantSessions(t, tap, 0)
}

// A nonce that came twice would make a command repeatable.
func TestNoncesRoll(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	conn.Keep(true)
	key, secret := loadSecretKey(t, conn)
	tap.Reset()
	seen := map[string]bool{}
	for range 10 {
		mustSign(t, conn, key, secret)
	}
	for _, e := range tap.Exchanges() {
		odd := e.Command[len(e.Command)-41 : len(e.Command)-21]
		even := e.Response[len(e.Response)-41 : len(e.Response)-21]
		if seen[string(odd)] || seen[string(even)] {
			t.Errorf("a nonce again: %x or %x", odd, even)
		}
		seen[string(odd)], seen[string(even)] = true, true
	}
}

func TestKeySession(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	key, secret := loadSecretKey(t, conn)
	again := *secret
	session, err := conn.OpenKeySession(key, secret)
	if err != nil {
		t.Fatal(err)
	}
	clear(secret[:])
	tap.Reset()
	for range 5 {
		mustSign(t, conn, key, session)
	}
	wantCommands(t, tap, ordSign, ordSign, ordSign, ordSign, ordSign)
	plain, err := conn.UnBind(key, tpmtest.Fixture(t, "tpm12-tutorial/auth.bound"), session)
	if err != nil || string(plain) != "bonjour" {
		t.Errorf("%q, %v", plain, err)
	}
	tap.Reset()
	session.Close()
	session.Close()
	if err := signFox(t, conn, key, session); !errors.Is(err, tpm12.ErrSessionEnded) || session.Alive() {
		t.Error(err)
	}
	wantCommands(t, tap)
	wantSessions(t, tap, 1)
	if session, err = conn.OpenKeySession(key, &again); err != nil { // flushes the other one
		t.Fatal(err)
	}
	wantSessions(t, tap, 1)
	mustSign(t, conn, key, session)
	conn.EndSessions()
	wantSessions(t, tap, 0)
	if session.Alive() {
		t.Error("ended, and alive")
	}
	wrong, err := conn.OpenKeySession(key, wellKnown)
	if err != nil {
		t.Fatal(err)
	}
	var refused *tpm12.Error
	if err := signFox(t, conn, key, wrong); !errors.As(err, &refused) || refused.Code != tpm12.AuthFail || wrong.Alive() {
		t.Error(err)
	}
	wantSessions(t, tap, 0)
	var none *tpm12.KeySession
	if err := signFox(t, conn, key, none); !errors.Is(err, tpm12.ErrSessionEnded) {
		t.Error(err)
	}
}

// Flushing a key ends the sessions of all its copies, as KeySession documents.
func TestKeySessionAndContexts(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	key, secret := loadSecretKey(t, conn)
	session, err := conn.OpenKeySession(key, secret)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := conn.SaveContext(key)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, conn, key, session)
	second, err := conn.LoadContext(saved)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, conn, second, session)
	if err := conn.FlushSpecific(second); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, tap, 0)
	if err := signFox(t, conn, key, session); !errors.Is(err, tpm12.InvalidAuthHandle) || session.Alive() {
		t.Error(err)
	}
	if session, err = conn.OpenKeySession(key, secret); err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushSpecific(key); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, tap, 0)
	if session.Alive() {
		t.Error("its key was flushed, and it is alive")
	}
}

// A Conn knows which sessions in the TPM are its own, as far as it can.
func TestOwnSessions(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	f.conn, f.tap = open(t, tpmtest.Tutorial)
	f.key, f.secret = loadSecretKey(t, f.conn)
	f.wantOwn("loaded", 0, 0, false)
	f.conn.Keep(true)
	mustSign(t, f.conn, f.key, f.secret)
	f.wantOwn("signed", 1, 1, true)
	session := f.open()
	f.wantOwn("opened", 2, 2, true)
	session.Close()
	f.wantOwn("closed", 2, 1, true)
	if err := signFox(t, f.conn, f.key, wellKnown); !errors.Is(err, tpm12.AuthFail) {
		t.Error(err)
	}
	f.wantOwn("wrong secret", 1, 0, true)
	f.conn.EndSessions()
	f.wantOwn("ended", 0, 0, false)
	f.open()
	mustSign(t, f.conn, f.key, f.secret)
	f.conn.EndRolling()
	f.wantOwn("rolling ended", 1, 1, true)
	tpm12.New(f.tap).FlushSpecific(f.key)
	f.wantOwn("key flushed by somebody", 0, 0, true)
	if err := signFox(t, f.conn, f.key, nil); !errors.Is(err, tpm12.InvalidKeyHandle) {
		t.Error(err)
	}
	f.wantOwn("noticed", 0, 0, false)
	f.key, _ = loadSecretKey(t, f.conn)
	f.conn.EndSessions()
	session = f.open()
	f.conn.Forget()
	f.wantOwn("forgotten", 1, 0, false)
	if session.Alive() {
		t.Error("forgotten, and alive")
	}
	if err := f.conn.OwnerClear(wellKnown); err != nil {
		t.Error(err)
	}
	f.wantOwn("cleared", 0, 0, false)
}

// wantOwn counts the sessions in the TPM, and those that the Conn owns.
func (f *fixture) wantOwn(step string, all, own int, holds bool) {
	f.t.Helper()
	open, err := tpm12.New(f.tap).Sessions()
	n := 0
	for _, h := range open {
		if f.conn.Owns(h) {
			n++
		}
	}
	if err != nil || len(open) != all || n != own || f.conn.Holds() != holds {
		f.t.Errorf("%s: %d of %d sessions are its own, want %d of %d; holds %v, %v", step, n, len(open), own, all, f.conn.Holds(), err)
	}
}

func TestHMAC(t *testing.T) {
	t.Parallel()
	key := tpm12.Secret(sha1.Sum([]byte("key")))
	for _, parts := range [][][]byte{nil, {nil}, {[]byte("a"), make([]byte, 200)}, {make([]byte, 64)}} {
		m := hmac.New(sha1.New, key[:])
		m.Write(bytes.Join(parts, nil))
		if got, want := tpm12.HMAC(&key, parts...), m.Sum(nil); !bytes.Equal(got, want) {
			t.Errorf("%x, want %x", got, want)
		}
	}
}

func TestAllocations(t *testing.T) {
	conn := tpm12.New(canned(nil))
	conn.Keep(true)
	area, reply := make([]byte, 51), make([]byte, 301)
	t.Logf("an authorized TPM_Sign, marshalled, and its reply, checked: %.0f allocations",
		testing.AllocsPerRun(1000, func() { tpm12.MarshalSign(conn, area, wellKnown, reply) }))
}
