package tpmkey_test

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/contextcache"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"

	"github.com/google/go-tpm/tpm2"
)

// Ordinals of TPM 1.2, for counting.
const (
	ordOIAP        = 0x0a
	ordOSAP        = 0x0b
	ordSeal        = 0x17
	ordUnseal      = 0x18
	ordUnBind      = 0x1e
	ordCreate      = 0x1f
	ordSign        = 0x3c
	ordLoadKey2    = 0x41
	ordGetCap      = 0x65
	ordSaveContext = 0xb8
	ordLoadContext = 0xb9
	ordFlush       = 0xba
)

// openTapped opens the tutorial's TPM through a tap, as a foreign transport.
func openTapped(t *testing.T) (*tpmkey.TPM, *tpmtest.Tap) {
	t.Helper()
	return openTappedIn(t, tpmtest.Tutorial)
}

func openTappedIn(t *testing.T, state tpmtest.State) (*tpmkey.TPM, *tpmtest.Tap) {
	t.Helper()
	dev, err := transport.Open(tpmtest.Start(t, state).Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(dev)
	tpm, err := tpmkey.OpenTransport(t.Context(), tap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm, tap
}

func ordinals(tap *tpmtest.Tap) []uint32 {
	var out []uint32
	for _, e := range tap.Exchanges() {
		out = append(out, e.Ordinal)
	}
	return out
}

func TestCommandsOfASignature(t *testing.T) {
	t.Parallel()
	tpm, tap := openTapped(t)
	k := loadFixture(t, tpm, "maclef")
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	want := []uint32{ordGetCap, ordOIAP, ordLoadKey2, ordSign, ordFlush}
	if got := ordinals(tap); !slices.Equal(got, want) {
		t.Errorf("commands %#x, want %#x", got, want)
	}
	k = loadFixture(t, tpm, "auth")
	tap.Reset()
	for range 3 {
		if _, err := k.Decrypt(nil, tpmtest.Fixture(t, "tpm12-tutorial/auth.bound"), nil); err != nil {
			t.Fatal(err)
		}
	}
	// Before the first use of its secret the lockout is looked at.
	if got, want := ordinals(tap), []uint32{ordGetCap, ordUnBind, ordUnBind, ordUnBind}; !slices.Equal(got, want) {
		t.Errorf("commands %#x, want %#x", got, want)
	}
}

// An operation with wrong arguments is refused without a command.
func TestRefusedWithoutTheTPM(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, tap := openTapped(t)
	k := loadFixture(t, tpm, "auth")
	tap.Reset()
	k.Sign(nil, make([]byte, 31), crypto.SHA256)
	k.Sign(nil, make([]byte, 32), nil)
	k.Decrypt(nil, make([]byte, 3), nil)
	if n := tap.Count(); n != 0 {
		t.Errorf("%d commands sent", n)
	}
}

// A reply to a command without authorization is covered by no HMAC: only the
// verification stands between a changed signature and the caller.
func TestChangedSignatureIsNotReturned(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, tap := openTapped(t)
	k := loadFixture(t, tpm, "maclef")
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if cmd[9] == ordSign && len(rsp) > 100 {
			rsp[100] ^= 4
		}
		return rsp, err
	}
	sig, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
	if sig != nil || err == nil || !strings.Contains(err.Error(), "faulty") {
		t.Errorf("%x, %v", sig, err)
	}
}

func TestLostConnection(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	tpm, err := tpmkey.OpenWithOptions(t.Context(), sw.Socket, &tpmkey.OpenOptions{Wait: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
	if err != nil {
		t.Fatal(err)
	}
	sw.Kill()
	for range 2 {
		_, err = k.Sign(nil, make([]byte, 32), crypto.SHA256)
		tpmtest.WantError(t, err, tpmkey.ErrGone)
	}
	if err := tpm.Close(); err != nil && !errors.Is(err, tpmkey.ErrGone) {
		t.Error(err)
	}
}

// A failed Open closes what it was given.
func TestOpenTransportCloses(t *testing.T) {
	t.Parallel()
	dev := new(deaf)
	if _, err := tpmkey.OpenTransport(t.Context(), dev); err == nil || !dev.closed {
		t.Errorf("%v, closed %v", err, dev.closed)
	}
	if _, err := tpmkey.OpenTransport(t.Context(), nil); err == nil {
		t.Error("opened nothing")
	}
}

type deaf struct{ closed bool }

func (d *deaf) Send([]byte) ([]byte, error) { return nil, errors.New("deaf") }
func (d *deaf) Close() error                { d.closed = true; return nil }

// A file without a key gives an error, not a panic.
func TestNoKey(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	for _, file := range []blob.Key{
		nil, new(blob.TPMKey), &blob.TPMKey{Usage: blob.KeyLegacy, EncScheme: blob.ESRSAESPKCSv15, SigScheme: blob.SSRSASSAPKCS1v15DER}, new(blob.TSS2),
	} {
		_, loadErr := tpm.Load(t.Context(), file, nil)
		_, encryptErr := tpmkey.Encrypt(file, []byte("x"))
		for _, err := range []error{loadErr, encryptErr, tpmkey.CheckSign(file, nil, crypto.SHA1), tpmkey.CheckDecrypt(file, nil, nil)} {
			if err == nil {
				t.Errorf("%+v was used", file)
			}
		}
	}
	if _, err := tpm.Wrap(t.Context(), nil, nil); err == nil {
		t.Error("wrapped nothing")
	}
	if _, err := tpm.Wrap(t.Context(), new(rsa.PrivateKey), nil); err == nil {
		t.Error("wrapped an empty key")
	}
}

// countOnly is the index of a command that does not come: Arm just counts from 0.
const countOnly = math.MaxInt

// housekeeping are the commands by which a turn begins and ends: they bring keys and
// sessions in, and take them out.
var housekeeping = []uint32{
	ordOIAP, ordOSAP, ordSaveContext, ordLoadContext, ordFlush,
	uint32(tpm2.TPMCCStartAuthSession), uint32(tpm2.TPMCCContextSave), uint32(tpm2.TPMCCContextLoad), uint32(tpm2.TPMCCFlushContext),
}

// operations is how many other commands reach the TPM while f runs: within a turn, all.
func operations(t *testing.T, p *tpmtest.Proxy, f func()) (n int) {
	t.Helper()
	counted(t, p, f)
	for _, e := range p.Exchanges() {
		if !slices.Contains(housekeeping, e.Ordinal) {
			n++
		}
	}
	return n
}

// counted is how many commands reach the TPM while f runs.
func counted(t *testing.T, p *tpmtest.Proxy, f func()) int {
	t.Helper()
	p.Arm(countOnly, tpmtest.Fault{})
	f()
	return p.Count()
}

// useFolder has contexts kept on disk during a test, for TPMs with such names.
func useFolder(t *testing.T, such func(tpm string) bool) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tpmkey.UseCache(func(tpm string) (*contextcache.Cache, error) {
		if !such(tpm) {
			return nil, nil
		}
		return contextcache.OpenIn(dir, 0o077, tpm)
	}))
	return dir
}
