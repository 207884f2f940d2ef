package tpmkey_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A faultKey is a key file and the secrets that a program has for it.
type faultKey struct {
	name     string
	tpm      *faultTPM
	steps    []step
	file     blob.Key // nil for one that is created
	srk, key tpmkey.Secret
	wrong    error // what one of these secrets is found to be, nil if they are right
	withSRK  bool  // the parent has a secret to prove
	withKey  bool  // so has the key
	counted  bool  // the TPM counts wrong secrets of this key
	few      int   // how many cases are tried for each command; the seed decides which. 0 for all
	// restricted keys sign messages
	restricted bool
	later      bool // its TPM is opened as those before: that is not tried again

	plain, cipher [2][]byte        // for decrypt and again
	remote        *ecdh.PrivateKey // for agree
	agreed        []byte
	sealed        []byte
}

var (
	stepsRSA     = []step{stepOpen, stepLoad, stepSign, stepDecrypt, stepAgain, stepClose}
	stepsECC     = []step{stepOpen, stepLoad, stepSign, stepAgree, stepAgreeAgain, stepClose}
	stepsUnseal  = []step{stepOpen, stepUnseal, stepUnsealAgain, stepClose}
	stepsSign    = []step{stepOpen, stepLoad, stepSign, stepClose}
	stepsTwice   = []step{stepOpen, stepLoad, stepSign, stepSignAgain, stepClose}
	stepsDecrypt = []step{stepOpen, stepLoad, stepDecrypt, stepAgain, stepClose}
	stepsCheck   = []step{stepOpen, stepLoad, stepCheck, stepDecrypt, stepAgain, stepClose}
	stepsCreate  = []step{stepOpen, stepCreate, stepLoad, stepSign, stepClose}
	stepsOnce    = []step{stepOpen, stepUnseal, stepClose} // a second unseal may use a refused secret again: the caller asked for it
	stepsSeal    = []step{stepOpen, stepSeal, stepUnseal, stepClose}
)

// faultKeys are the kinds of keys that each fault is tried with.
func faultKeys(t *testing.T) []*faultKey {
	t.Helper()
	faux := tpmkey.Password([]byte("faux"))
	asked := tpmkey.AskSecret(func() (tpmkey.Secret, error) { return motdepasse(), nil })
	proprio := tpmkey.Password([]byte("proprio"))
	keys := []*faultKey{
		{name: "plain", file: parseFixture(t, "maclef"), srk: tutorialSRK(), few: 60},
		{name: "secret", file: parseFixture(t, "auth"), srk: tutorialSRK(), key: motdepasse(), few: 12},
		{name: "wrong", file: parseFixture(t, "auth"), srk: tutorialSRK(), key: faux, wrong: tpmkey.ErrWrongKeySecret, few: 12},
		{name: "wrong, decrypts", file: parseFixture(t, "auth"), srk: tutorialSRK(), key: faux, wrong: tpmkey.ErrWrongKeySecret, steps: stepsDecrypt, few: 12},
		{name: "wrong SRK", file: parseFixture(t, "maclef"), srk: faux, wrong: tpmkey.ErrWrongSRKSecret, few: 12},

		{name: "sealed", file: sealed12(t, "sealed"), srk: tutorialSRK(), steps: stepsUnseal, few: 12},
		{name: "sealed secret", file: sealed12(t, "sealed-auth"), srk: tutorialSRK(), key: motdepasse(), steps: stepsOnce, few: 12},
		{name: "sealed wrong", file: sealed12(t, "sealed-auth"), srk: tutorialSRK(), key: faux, wrong: tpmkey.ErrWrongKeySecret, steps: stepsOnce, few: 12},
		{name: "seals", srk: tutorialSRK(), key: motdepasse(), steps: stepsSeal, few: 8}, // it makes an RSA key in each

		{name: "2.0 plain", tpm: faultKeys20, file: fixture20(t, "pv-rsa"), counted: true},
		{name: "2.0 counted", tpm: faultKeys20, file: fixture20(t, "pv-rsa-auth"), withKey: true, key: motdepasse(), counted: true},
		{name: "2.0 wrong", tpm: faultKeys20, file: fixture20(t, "pv-rsa-auth"), withKey: true, key: faux, wrong: tpmkey.ErrWrongKeySecret, counted: true},
		{name: "2.0 wrong, checks", tpm: faultKeys20, file: pair20(t, "tools-rsaes"), withKey: true, key: faux, wrong: tpmkey.ErrWrongKeySecret, counted: true, steps: stepsCheck},
		{name: "2.0 secret", tpm: faultKeys20, file: fixture20(t, "e2-p256-auth"), withKey: true, key: motdepasse()},
		{name: "2.0 wrong uncounted", tpm: faultKeys20, file: fixture20(t, "e2-p256-auth"), withKey: true, key: faux, wrong: tpmkey.ErrWrongKeySecret},
		{name: "2.0 asked", tpm: faultKeys20, file: fixture20(t, "pv-rsa-auth"), withKey: true, key: asked, counted: true},
		{name: "2.0 policy", tpm: faultKeys20, file: fixture20(t, "e2-p256-pcr")},
		{name: "2.0 imported", tpm: faultKeys20, file: fixture20(t, "e2-import-ec")},
		{name: "2.0 sealed", tpm: faultKeys20, file: fixture20(t, "e2-sealed"), steps: stepsUnseal},
		{name: "2.0 seals", tpm: faultKeys20, withKey: true, key: motdepasse(), steps: stepsSeal},
		{name: "2.0 created", tpm: faultKeys20, withKey: true, key: motdepasse(), steps: stepsCreate},
		{name: "2.0 restricted", tpm: faultKeys20, file: pair20(t, "tools-ak"), withKey: true, key: motdepasse(), counted: true, restricted: true, steps: stepsTwice},
		{name: "2.0 restricted wrong", tpm: faultKeys20, file: pair20(t, "tools-ak"), withKey: true, key: faux, wrong: tpmkey.ErrWrongKeySecret, counted: true, restricted: true, steps: stepsTwice},
		{name: "2.0 owner", tpm: faultOwned20, file: fixture20(t, "pv-p256"), withSRK: true, srk: proprio, counted: true},
		{name: "2.0 wrong owner", tpm: faultOwned20, file: fixture20(t, "pv-p256"), withSRK: true, srk: faux, wrong: tpmkey.ErrWrongSRKSecret},
		{name: "1.2 on disk", tpm: faultDisk12, file: stpm(t, "stpm.key"), steps: stepsSign, counted: true, few: 12},
		{name: "2.0 on disk", tpm: faultDisk20, file: fixture20(t, "pv-rsa-auth"), withKey: true, key: motdepasse(), counted: true, steps: stepsSign},
		{name: "2.0 sealed on disk", tpm: faultDisk20, file: fixture20(t, "e2-sealed"), steps: stepsUnseal},
	}
	opened := map[bool]bool{}
	for _, k := range keys {
		if k.tpm == nil {
			k.tpm, k.counted = faultTutorial, true
		}
		if k.later = k.tpm.is20 && opened[true]; k.later {
			k.few = 4
		}
		opened[k.tpm.is20] = true
		k.prepare(t)
	}
	return keys
}

// prepare has ready what the key is to do, and with what result.
func (k *faultKey) prepare(t *testing.T) {
	t.Helper()
	if k.file == nil || k.steps != nil && !slices.Contains(k.steps, stepDecrypt) {
		k.sealed = tpmtest.Fixture(t, "tpm12-tutorial/bonjour.txt")
		if k.tpm.is20 {
			k.sealed = tpmtest.Fixture(t, "tpm2/sealed.txt")
		}
		return
	}
	if public, ok := k.file.PublicKey().(*ecdsa.PublicKey); ok {
		k.steps = stepsECC
		ours, err := public.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		if k.remote, err = ours.Curve().GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
		if k.agreed, err = k.remote.ECDH(ours); err != nil {
			t.Fatal(err)
		}
		return
	}
	if k.steps == nil {
		k.steps = stepsRSA
	}
	k.plain = [2][]byte{[]byte("bonjour"), []byte("au revoir, et merci")}
	for i, plain := range k.plain {
		var err error
		if k.cipher[i], err = rsa.EncryptPKCS1v15(rand.Reader, k.file.PublicKey().(*rsa.PublicKey), plain); err != nil {
			t.Fatal(err)
		}
	}
}
