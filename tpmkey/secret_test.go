package tpmkey_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// The encodings are those of trousers and tpm-tools: SHA-1 of "clé" as UTF-8 and
// as UTF-16LE.
func TestSecretEncodings(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	utf16, err := tpmkey.PasswordUTF16([]byte("clé"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Bits: 512, ParentAuth: tutorialSRK(), Auth: utf16})
	if err != nil {
		t.Fatal(err)
	}
	same := tpmkey.Password([]byte("c\x00l\x00\xe9\x00"))
	k, err := tpm.Load(t.Context(), made, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: same})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 20), crypto.SHA1); err != nil {
		t.Error(err)
	}
	if _, err := tpmkey.PasswordUTF16([]byte("cl\xe9")); err == nil {
		t.Error("Latin-1 was taken for UTF-8")
	}
	astral, err := tpmkey.PasswordUTF16([]byte("🗝"))
	if err != nil || astral.IsZero() {
		t.Error(err)
	}
}

// holder is a caller's own struct: package fmt prints its unexported fields
// without calling their methods.
type holder struct {
	secret tpmkey.Secret
	opts   tpmkey.LoadOptions
	key    *tpmkey.Key
	tpm    *tpmkey.TPM
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	inBoth(t, testSecretsAreNotPrinted)
}

func testSecretsAreNotPrinted(t *testing.T, gen generation) {
	tpm := openState(t, gen.state)
	k := loadFixture(t, tpm, gen.secret)
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	opts := tpmkey.LoadOptions{Auth: motdepasse(), ParentAuth: tutorialSRK()}
	digest := digestOf("sha1", []byte("motdepasse"))
	leaks := []string{fmt.Sprintf("%d", digest[:3]), fmt.Sprintf("%x", digest[:3]), fmt.Sprintf("%X", digest[:3]), string(digest[:3]),
		strings.Trim(fmt.Sprintf("%#v", digest[:3]), "[]byte{}"), strings.Trim(fmt.Sprint(digest[:3]), "[]"),
		"motdepasse", "6d6f74", "6D6F74", "109 111 116", "0x6d, 0x6f, 0x74"}
	var out bytes.Buffer
	for _, v := range []any{motdepasse(), opts, &opts, k, tpm, holder{motdepasse(), opts, k, tpm}, &holder{motdepasse(), opts, k, tpm}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		if data, err := json.Marshal(v); err == nil {
			out.Write(data)
		}
	}
	for _, leak := range leaks {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in what was printed", leak)
		}
	}
	if out.Len() < 1000 {
		t.Errorf("only %d bytes printed", out.Len())
	}
}

// No function is no secret, least of all the well-known one.
func TestAskNobody(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	nobody := tpmkey.AskSecret(nil)
	_, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Bits: 512, ParentAuth: tutorialSRK(), Auth: nobody})
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded)
	_, err = tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: nobody})
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded)
	again := tpmkey.AskSecret(func() (tpmkey.Secret, error) { return nobody, nil })
	if _, err = tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: again}); err == nil {
		t.Error("asked in a circle")
	}
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries used", n)
	}
}

// A secret is not tried again if nobody knows whether it was wrong.
func TestLostErrorReply(t *testing.T) {
	t.Parallel()
	inBoth(t, testLostErrorReply)
}

func testLostErrorReply(t *testing.T, gen generation) {
	tpm, tap := openTappedIn(t, gen.state)
	k, err := tpm.Load(t.Context(), parseFixture(t, gen.counted), &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: tpmkey.Password([]byte("faux"))})
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("lost")
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if commandOf(cmd) == gen.sign {
			return nil, lost
		}
		return rsp, err
	}
	for i := range 3 {
		_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
		if err == nil || i > 0 && !strings.Contains(err.Error(), "not tried again") {
			t.Error(err)
		}
	}
	tap.After = nil
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("signed")
	}
	if n := tries(t, tpm); n != 1 {
		t.Errorf("%d tries used, not 1", n)
	}
}

// A TPM that is locked out refuses before it ends the session: there are few,
// and none may stay.
func TestSessionsDoNotLeak(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	wrong := func(i int) *tpmkey.LoadOptions { // the same one is not tried again
		return &tpmkey.LoadOptions{ParentAuth: tpmkey.Password([]byte{byte(i)})}
	}
	for i := range 6 {
		tpm.Load(t.Context(), parseFixture(t, "maclef"), wrong(i))
	}
	locked := 0
	for i := range 40 {
		_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), wrong(i))
		if errors.Is(err, tpmkey.ErrLockedOut) {
			locked++
		} else if !errors.Is(err, tpmkey.ErrWrongSRKSecret) {
			t.Fatal(err)
		}
	}
	if locked < 20 {
		t.Errorf("locked out %d times only", locked)
	}
	for _, state := range []tpmtest.State{tpmtest.Fresh, tpmtest.Disabled, tpmtest.Deactivated} {
		tpm := openState(t, state)
		var err error
		for range 20 {
			_, err = tpm.Load(t.Context(), parseFixture(t, "maclef"), nil)
		}
		if !errors.Is(err, tpmkey.ErrNotOwned) && !errors.Is(err, tpmkey.ErrDisabled) {
			t.Error(err)
		}
	}
}
