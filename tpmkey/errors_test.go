package tpmkey_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// tries is how many wrong secrets the TPM has counted.
func tries(t *testing.T, tpm *tpmkey.TPM) int {
	t.Helper()
	s, err := tpm.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Lockout == nil || !s.Lockout.Known {
		t.Fatal("this TPM does not tell its count of wrong secrets")
	}
	return s.Lockout.Tries
}

// parseFixture parses a recorded key; those of TPM 2.0 are called e2-… and pv-….
func parseFixture(t *testing.T, name string) blob.Key {
	t.Helper()
	if strings.HasPrefix(name, "e2-") || strings.HasPrefix(name, "pv-") {
		return fixture20(t, name)
	}
	return fixture12(t, name)
}

func fixture12(t *testing.T, name string) *blob.TPMKey {
	t.Helper()
	k, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/"+name))
	if err != nil {
		t.Fatal(err)
	}
	return k.(*blob.TPMKey)
}

// stpm is a key of the TPM 1.2 whose SRK has the well-known secret.
func stpm(t *testing.T, name string) *blob.TPMKey {
	t.Helper()
	k, err := blob.Parse(tpmtest.Fixture(t, "tpm12-wellknown/"+name))
	if err != nil {
		t.Fatal(err)
	}
	return k.(*blob.TPMKey)
}

func TestWrongSRKSecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret, "TPM_AUTHFAIL", "1 of 5 tries used")
	if n := tries(t, tpm); n != 1 {
		t.Errorf("%d tries used, not 1", n)
	}
	loadFixture(t, tpm, "maclef")
	_, err = tpm.Create(t.Context(), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret, "not tried again")
	_, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{ParentAuth: tpmkey.Password([]byte("faux"))})
	tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret, "2 of 5 tries used")
}

func TestWrongKeySecretCostsOneTry(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	asked := 0
	k, err := tpm.Load(t.Context(), parseFixture(t, "auth"), &tpmkey.LoadOptions{
		ParentAuth: tutorialSRK(),
		Auth:       tpmkey.AskSecret(func() (tpmkey.Secret, error) { asked++; return tpmkey.Password([]byte("faux")), nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked != 0 {
		t.Error("asked for the key's secret before it was needed")
	}
	for range 3 {
		_, err = k.Sign(nil, make([]byte, 32), crypto.SHA256)
		tpmtest.WantError(t, err, tpmkey.ErrWrongKeySecret, "1 of 5 tries used")
	}
	_, err = k.Decrypt(nil, tpmtest.Fixture(t, "tpm12-tutorial/auth.bound"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongKeySecret)
	if n := tries(t, tpm); n != 1 || asked != 1 {
		t.Errorf("%d tries used, %d times asked; not 1 and 1", n, asked)
	}
	// The right secret works at once.
	if _, err := loadFixture(t, tpm, "auth").Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
}

func TestMissingKeySecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k, err := tpm.Load(t.Context(), parseFixture(t, "auth"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(nil, make([]byte, 32), crypto.SHA256)
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded)
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries used", n)
	}
}

func TestAskedSecrets(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	cancelled := errors.New("cancelled")
	ask := tpmkey.AskSecret(func() (tpmkey.Secret, error) { return tpmkey.Secret{}, cancelled })
	_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: ask})
	tpmtest.WantError(t, err, cancelled, "SRK's secret")
	// A key without a secret never asks.
	k, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: ask})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
}

func TestLockedOut(t *testing.T) {
	t.Parallel()
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "auth")
	for i := range 6 { // the same one is not tried again
		if _, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tpmkey.Password([]byte{byte(i)})}); err == nil {
			t.Fatal("loaded with a wrong secret")
		}
	}
	_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
	tpmtest.WantError(t, err, tpmkey.ErrLockedOut, "TPM_DEFEND_LOCK_RUNNING", "wait")
	_, err = k.Sign(nil, make([]byte, 32), crypto.SHA256)
	tpmtest.WantError(t, err, tpmkey.ErrLockedOut)
	if s, err := tpm.Status(t.Context()); err != nil || !s.Lockout.Locked {
		t.Errorf("status %+v, %v: not locked", s, err)
	}
}

func TestKeyOfAnotherTPM(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openState(t, tpmtest.WellKnown)
	_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "another TPM", "cleared")
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries used", n)
	}
}

// A damaged public part can look like a wrong SRK secret to the TPM.
func TestDamagedKeyIsNoWrongSecret(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	for name, damage := range map[string]func(*blob.TPMKey){
		"flags":         func(k *blob.TPMKey) { k.Flags ^= blob.Migratable },
		"authDataUsage": func(k *blob.TPMKey) { k.AuthDataUsage = blob.AuthAlways },
		"usage":         func(k *blob.TPMKey) { k.Usage = blob.KeySigning },
		"sigScheme":     func(k *blob.TPMKey) { k.SigScheme = blob.SSRSASSAPKCS1v15SHA1 },
		"modulus":       func(k *blob.TPMKey) { k.Modulus[10] ^= 1 },
		"encData":       func(k *blob.TPMKey) { k.EncData[10] ^= 1 },
	} {
		k := fixture12(t, "maclef")
		damage(k)
		_, err := tpm.Load(t.Context(), k, &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
		if err == nil || errors.Is(err, tpmkey.ErrWrongSRKSecret) {
			t.Errorf("%s: %v", name, err)
		} else if !errors.Is(err, tpmkey.ErrWrongTPM) && !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("%s: error of no kind: %v", name, err)
		}
	}
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries used", n)
	}
}

// A key file of the other generation is refused by name, before anybody is asked.
func TestOtherGeneration(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for _, c := range map[string]struct {
		state tpmtest.State
		file  blob.Key
	}{
		"1.2 file": {tpmtest.Keys20, parseFixture(t, "auth")},
		"2.0 file": {tpmtest.Tutorial, fixture20(t, "pv-rsa-auth")},
	} {
		tpm := openState(t, c.state)
		_, err := tpm.Load(t.Context(), c.file, &tpmkey.LoadOptions{ParentAuth: never(t), Auth: never(t)})
		tpmtest.WantError(t, err, tpmkey.ErrWrongGeneration, "TPM 1.2", "TPM 2.0", "the file is for a TPM")
		sealed := map[string]blob.Key{"2.0": sealed12(t, "sealed"), "1.2": fixture20(t, "e2-sealed")}[tpm.Family()]
		_, err = tpm.Unseal(t.Context(), sealed, &tpmkey.LoadOptions{ParentAuth: never(t), Auth: never(t)})
		tpmtest.WantError(t, err, tpmkey.ErrWrongGeneration, "TPM 1.2", "TPM 2.0", "the file is for a TPM")
	}
}

func TestStatesWithoutKeys(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, c := range map[string]struct {
		state tpmtest.State
		kind  error
		word  string
	}{
		"not owned":   {tpmtest.Fresh, tpmkey.ErrNotOwned, "no storage root key"},
		"disabled":    {tpmtest.Disabled, tpmkey.ErrDisabled, "the TPM is disabled or deactivated ("},
		"deactivated": {tpmtest.Deactivated, tpmkey.ErrDisabled, "the TPM is disabled or deactivated ("},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := openState(t, c.state)
			asked := false
			opts := &tpmkey.LoadOptions{ParentAuth: tpmkey.AskSecret(func() (tpmkey.Secret, error) { asked = true; return tpmkey.WellKnown(), nil })}
			_, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), opts)
			if asked && c.kind == tpmkey.ErrNotOwned {
				t.Error("asked for the secret of a TPM without SRK")
			}
			tpmtest.WantError(t, err, c.kind, c.word)
			_, err = tpm.Load(t.Context(), parseFixture(t, "maclef"), nil)
			tpmtest.WantError(t, err, c.kind, c.word)
			_, err = tpm.Create(t.Context(), nil)
			tpmtest.WantError(t, err, c.kind, c.word)
			if _, err := tpm.Status(t.Context()); err != nil {
				t.Errorf("status: %v", err)
			}
		})
	}
}

// A person takes a minute to type a secret; nobody else waits for that.
func TestCloseWhileAsking(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	k, err := tpm.Load(t.Context(), parseFixture(t, "auth"), &tpmkey.LoadOptions{
		ParentAuth: tutorialSRK(),
		Auth:       tpmkey.AskSecret(func() (tpmkey.Secret, error) { close(asked); <-answer; return motdepasse(), nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := make(chan error)
	go func() {
		_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
		signed <- err
	}()
	<-asked
	if _, err := loadFixture(t, tpm, "maclef").Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	close(answer)
	tpmtest.WantError(t, <-signed, tpmkey.ErrClosed)
}

func TestClosed(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "maclef")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
	tpmtest.WantError(t, err, tpmkey.ErrClosed)
	left := loadFixture(t, tpm, "maclef")
	if err := tpm.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = left.Sign(nil, make([]byte, 32), crypto.SHA256)
	tpmtest.WantError(t, err, tpmkey.ErrClosed)
	_, err = tpm.Status(t.Context())
	tpmtest.WantError(t, err, tpmkey.ErrClosed)
}

func TestCloseFreesSlots(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	for range 3 {
		tpm, err := tpmkey.Open(t.Context(), sw.Socket)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tpm.Status(t.Context())
		if err != nil || s.FreeKeys != s.MaxKeys {
			t.Fatalf("%+v, %v: slots in use", s, err)
		}
		for _, name := range []string{"maclef", "oaep", "auth"} {
			if _, err := tpm.Load(t.Context(), parseFixture(t, name), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tpm.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
