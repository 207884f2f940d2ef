package tpmkey_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

func loadWith(t *testing.T, tpm *tpmkey.TPM, name string, srk, secret tpmkey.Secret) *tpmkey.Key {
	t.Helper()
	k, err := tpm.Load(t.Context(), parseFixture(t, name), &tpmkey.LoadOptions{ParentAuth: srk, Auth: secret})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signs signs the SHA-256 digest of about, and verifies the signature.
func signs(k *tpmkey.Key, about ...any) error {
	digest := digestOf("sha256", fmt.Append(nil, about...))
	sig, err := k.Sign(nil, digest, crypto.SHA256)
	if err != nil {
		return err
	}
	if public, ok := k.Public().(*ecdsa.PublicKey); ok {
		if !ecdsa.VerifyASN1(public, digest, sig) {
			return errors.New("the ECDSA signature is wrong")
		}
		return nil
	}
	return rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), crypto.SHA256, digest, sig)
}

func mustSign(t *testing.T, k *tpmkey.Key, about ...any) {
	t.Helper()
	if err := signs(k, about...); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 20 seconds: %s", what)
		}
	}
}

// loadedIn is how many keys are in a TPM.
func loadedIn(t *testing.T, p *tpmtest.Proxy, gen generation) int {
	t.Helper()
	inside, err := (&faultTPM{is20: gen.is20()}).inside(p)
	if err != nil {
		t.Fatal(err)
	}
	return len(inside.keys)
}
