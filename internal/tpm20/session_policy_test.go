package tpm20_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

func TestPolicySession(t *testing.T) {
	t.Parallel()
	conn, tap := open(t)
	parent := primary(t, conn, false)
	template := eccKey
	template.ObjectAttributes.UserWithAuth = false
	// PolicyAuthValue and PolicyPassword make this digest.
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := (tpm2.PolicyAuthValue{}).Update(calculator); err != nil {
		t.Fatal(err)
	}
	template.AuthPolicy.Buffer = calculator.Hash().Digest
	key := create(t, conn, parent, template, "pw")
	for name, salt := range map[string]*tpm20.Object{"salted": parent, "unsalted": nil} {
		s := mustStart(conn.StartPolicy(tpm2.TPMAlgSHA256, salt))
		for i := range 3 {
			if _, err := tpm20.Run(conn, tpm2.PolicyAuthValue{PolicySession: s.Handle()}); err != nil {
				t.Fatal(err)
			}
			s.NeedAuthValue()
			if _, err := conn.Sign(key, s.For([]byte("wrong"), 0), ecdsaSHA256, message[:], nil); !errors.Is(err, tpm2.TPMRCAuthFail) && i == 0 {
				t.Error(name, err)
			}
			sig, err := conn.Sign(key, s.For([]byte("pw"), tpm20.Encrypt(i&1)), ecdsaSHA256, message[:], nil)
			if err != nil {
				t.Error(name, err)
				continue
			}
			verify(t, key, message[:], sig)
			clearLockout(t, tap)
		}
		if _, err := conn.Sign(key, s.For([]byte("pw"), 0), ecdsaSHA256, message[:], nil); !errors.Is(err, tpm2.TPMRCPolicyFail) || !s.Alive() {
			t.Error(name, err)
		}
	}
	conn.EndSessions()
	wantLoaded(t, tap, 2, 0)
}

// clearLockout forgets the wrong secrets: TPM2_DictionaryAttackLockReset.
func clearLockout(t testing.TB, tap *tpmtest.Tap) {
	t.Helper()
	rsp, err := tap.Send([]byte("\x80\x02\x00\x00\x00\x1b\x00\x00\x01\x39\x40\x00\x00\x0a\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00"))
	if err != nil || len(rsp) < 10 || !bytes.Equal(rsp[6:10], make([]byte, 4)) {
		t.Fatalf("%x, %v", rsp, err)
	}
}

// A policy without an auth value: with nothing to prove there is no HMAC, and
// parameters are encrypted by a session beside it, since the auth value is not known.
func TestPolicyWithoutAuthValue(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	parent := primary(t, conn, true)
	template := rsaKey
	template.ObjectAttributes.UserWithAuth = false
	calculator, _ := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	command := tpm2.PolicyCommandCode{Code: tpm2.TPMCCRSADecrypt}
	if err := command.Update(calculator); err != nil {
		t.Fatal(err)
	}
	template.AuthPolicy.Buffer = calculator.Hash().Digest
	key := create(t, conn, parent, template, "nobody knows")
	pub, _ := tpm2.Pub(*key.Public)
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, pub.(*rsa.PublicKey), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	es := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})}
	hiding := session(t, conn, parent)
	for name, salt := range map[string]*tpm20.Object{"salted": parent, "unsalted": nil} {
		s := mustStart(conn.StartPolicy(tpm2.TPMAlgSHA256, salt))
		for _, extra := range [][]tpm2.Session{nil, {hiding.For(nil, tpm20.EncryptOut)}, {hiding.For(nil, tpm20.EncryptOut|tpm20.EncryptIn)}} {
			command.PolicySession = s.Handle()
			if _, err := tpm20.Run(conn, command); err != nil {
				t.Fatal(err)
			}
			plain, err := conn.RSADecrypt(key, s.For(nil, 0), ciphertext, es, extra...)
			if err != nil || string(plain) != "hello" {
				t.Errorf("%s: %q, %v", name, plain, err)
			}
		}
	}
}
