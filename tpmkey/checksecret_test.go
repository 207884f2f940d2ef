package tpmkey_test

import (
	"crypto"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A secret is checked without an operation, costs a try where it is wrong, and is not
// tried again.
func TestCheckSecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, in := range map[string]struct {
		state tpmtest.State
		file  string
	}{
		"1.2":                {tpmtest.Tutorial, "tpm12-tutorial/auth"},
		"2.0, RSA":           {tpmtest.Keys20, "tpm2/e2-rsa-auth-da.pem"},
		"2.0, P-256":         {tpmtest.Keys20, "tpm2/e2-p256-auth.pem"},
		"2.0, RSA, decrypts": {tpmtest.Keys20, "tpm2/pv-rsa-auth.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			sw := tpmtest.Start(t, in.state)
			tpm, err := tpmkey.Open(t.Context(), sw.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer tpm.Close()
			file, err := blob.Parse(tpmtest.Fixture(t, in.file))
			if err != nil {
				t.Fatal(err)
			}
			load := func(secret tpmkey.Secret) *tpmkey.Key {
				k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil), Auth: secret})
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			right := []byte("motdepasse")
			asked := 0
			for kind, secret := range map[string]tpmkey.Secret{
				"given": tpmkey.Password(right),
				"asked": tpmkey.AskSecret(func() (tpmkey.Secret, error) { asked++; return tpmkey.Password(right), nil }),
			} {
				k := load(secret)
				for range 2 {
					if err := k.CheckSecret(t.Context()); err != nil {
						t.Errorf("%s: %v", kind, err)
					}
				}
				if _, err := k.Sign(nil, make([]byte, 20), crypto.SHA1); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				k.Close()
			}
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			k := load(tpmkey.Password([]byte("faux")))
			for range 2 {
				if err := k.CheckSecret(t.Context()); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
					t.Errorf("a wrong secret: %v", err)
				}
			}
			if s, err := tpm.Status(t.Context()); err != nil || tpm.Family() == "1.2" && s.Lockout.Tries != 1 {
				t.Errorf("%+v, %v", s.Lockout, err)
			}
		})
	}
}
