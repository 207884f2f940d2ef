package tpmkey_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// sealed12 is a file of tpm_sealdata.
func sealed12(t *testing.T, name string) *blob.TPMSealed {
	t.Helper()
	k, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/"+name))
	if err != nil {
		t.Fatal(err)
	}
	return k.(*blob.TPMSealed)
}

// openProxied opens the tutorial's TPM through a proxy.
func openProxied(t *testing.T) (*tpmkey.TPM, *tpmtest.Proxy) {
	t.Helper()
	p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Tutorial))
	return openName(t, p.Name), p
}

// wantNothingLoaded waits for the end of the turn.
func wantNothingLoaded(t *testing.T, p *tpmtest.Proxy) {
	t.Helper()
	var inside left
	eventually(t, "nothing is loaded", func() bool {
		var err error
		inside, err = faultTutorial.inside(p)
		return err == nil && len(inside.keys)+len(inside.sessions) == 0
	})
}

func TestSeal12(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, p := openProxied(t)
	for n, secret := range map[int]tpmkey.Secret{1: {}, 16: motdepasse(), 100_000: {}} {
		data := bytes.Repeat([]byte("x"), n)
		made, err := tpm.Seal(t.Context(), data, &tpmkey.SealOptions{ParentAuth: tutorialSRK(), Auth: secret})
		if err != nil {
			t.Fatal(err)
		}
		file := reread(t, made)
		if file.NeedsSecret() == secret.IsZero() {
			t.Errorf("needs a secret: %v", file.NeedsSecret())
		}
		got, err := tpm.Unseal(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: secret})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came out, %v", len(got), err)
		}
		if _, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK()}); !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("loaded as a key: %v", err)
		}
	}
	wantTries(t, tpm, 0)
	wantNothingLoaded(t, p)
	for _, c := range []struct {
		size int
		opts tpmkey.SealOptions
		want string
	}{
		{0, tpmkey.SealOptions{}, "0 bytes of data"},
		{blob.MaxSealed12 + 1, tpmkey.SealOptions{}, "8388609 bytes of data; 1 to 8388608 can be sealed"},
		{1, tpmkey.SealOptions{Parent: 0x81000001}, "no handle of another parent"},
		{1, tpmkey.SealOptions{Policy: mustPolicy(t, "pcr:7")}, "in pcr:sha1:7"},
		{1, tpmkey.SealOptions{Policy: mustPolicy(t, "pcr:sha1:7+sha256:7")}, "in pcr:sha1:7"},
	} {
		c.opts.ParentAuth = never(t)
		_, err := tpm.Seal(t.Context(), make([]byte, c.size), &c.opts)
		tpmtest.WantError(t, err, tpmkey.ErrNotSupported, c.want)
	}
}

func mustPolicy(t *testing.T, text string) *tpmkey.Policy {
	t.Helper()
	policy, err := tpmkey.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// A wrong secret costs one try, whichever it is, and a right one none.
func TestSealSecrets12(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, p := openProxied(t)
	faux, asked := tpmkey.Password([]byte("faux")), 0
	ask := tpmkey.AskSecret(func() (tpmkey.Secret, error) { asked++; return motdepasse(), nil })
	seal := func(srk, secret tpmkey.Secret) (blob.Key, error) {
		return tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{ParentAuth: srk, Auth: secret})
	}
	file, err := seal(tutorialSRK(), ask)
	if err != nil {
		t.Fatal(err)
	}
	wantTries(t, tpm, 0)
	_, err = seal(faux, tpmkey.Secret{})
	tpmtest.WantError(t, err, tpmkey.ErrWrongSRKSecret, "seal: ", "1 of 5 tries used")
	tries := 1
	for _, c := range []struct {
		name        string
		file        blob.Key
		srk, secret tpmkey.Secret
		want        error
		tries       int
	}{
		{"right", file, tutorialSRK(), motdepasse(), nil, 0},
		{"asked", file, tutorialSRK(), ask, nil, 0},
		{"wrong", file, tutorialSRK(), faux, tpmkey.ErrWrongKeySecret, 1},
		{"none", file, tutorialSRK(), tpmkey.Secret{}, tpmkey.ErrSecretNeeded, 0},
		{"wrong SRK", file, tpmkey.WellKnown(), never(t), tpmkey.ErrWrongSRKSecret, 1},
		{"not needed", sealed12(t, "sealed"), tutorialSRK(), never(t), nil, 0},
		{"the common one", sealed12(t, "sealed"), tutorialSRK(), tpmkey.Password([]byte("password")), nil, 0},
		{"wrong where none is needed", sealed12(t, "sealed"), tutorialSRK(), tpmkey.WellKnown(), tpmkey.ErrWrongKeySecret, 1},
	} {
		data, err := tpm.Unseal(t.Context(), c.file, &tpmkey.LoadOptions{ParentAuth: c.srk, Auth: c.secret})
		if !errors.Is(err, c.want) || err == nil && string(data) != "bonjour" {
			t.Errorf("%s: %q, %v", c.name, data, err)
		}
		tries += c.tries
		wantTries(t, tpm, tries)
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	wantNothingLoaded(t, p)
}

// A file that says that it has no secret and has one gets one try, and the error says so.
func TestSealedUntoldSecret12(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _ := openProxied(t)
	file, err := tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{ParentAuth: tutorialSRK(), Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	file.(*blob.TPMSealed).Secret = false
	_, err = tpm.Unseal(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded, "another secret than tpm_sealdata gives, 1 of 5 tries used")
	wantTries(t, tpm, 1)
}

// The files of tpm_sealdata, and ours, are bound to PCRs in both forms.
func TestSealedPCRs12(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, p := openProxied(t)
	seal := func(policy string) *blob.TPMSealed {
		file, err := tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{ParentAuth: tutorialSRK(), Policy: mustPolicy(t, policy)})
		if err != nil {
			t.Fatal(err)
		}
		return reread(t, file).(*blob.TPMSealed)
	}
	files := []struct {
		file    *blob.TPMSealed
		differs string
	}{
		{sealed12(t, "sealed-pcr16"), "PCR 16 differs"},
		{sealed12(t, "sealed-pcr8"), "one or more of PCRs 8,15 differ"},
		{seal("pcr:sha1:8"), "PCR 8 differs"},
		{seal("pcr:sha1:0-3,15-16,23"), "one or more of PCRs 0,1,2,3,15,16,23 differ"},
	}
	opts := &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Name: "secret.tss"}
	for _, f := range files {
		if data, err := tpm.Unseal(t.Context(), f.file, opts); err != nil || string(data) != "bonjour" {
			t.Errorf("%s: %q, %v", f.differs, data, err)
		}
	}
	sendAll(t, p, tpmtest.PCRExtend12(8, "changed"), tpmtest.PCRExtend12(16, "changed"))
	for _, f := range files {
		_, err := tpm.Unseal(t.Context(), f.file, opts)
		wantUnmet(t, err, "unseal secret.tss: the policy is not met (TPM_WRONGPCRVAL; "+f.differs+" from when the data was sealed)")
	}
	again := seal("pcr:sha1:8,16")
	if data, err := tpm.Unseal(t.Context(), again, opts); err != nil || string(data) != "bonjour" {
		t.Errorf("%q, %v", data, err)
	}
	wantTries(t, tpm, 0)
	wantNothingLoaded(t, p)
}

// TestSealedPCRRace checks that data is not sealed to values that the PCRs never had for the TPM: an
// answer to TPM_PCRRead is not authenticated.
func TestSealedPCRRace(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, p := openProxied(t)
	const ordPCRRead = 0x15
	p.Arm(0, tpmtest.Fault{Repeat: 1 << 20, Answer: func(cmd, rsp []byte) []byte {
		if commandOf(cmd) == ordPCRRead {
			rsp[10] ^= 1
		}
		return rsp
	}})
	_, err := tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{ParentAuth: tutorialSRK(), Policy: mustPolicy(t, "pcr:sha1:8")})
	if err == nil || !strings.Contains(err.Error(), "a PCR changed while the data was sealed") {
		t.Errorf("error %v", err)
	}
}

// A damaged file, or one of another TPM, is told, and costs no try.
func TestSealedDamaged12(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, p := openProxied(t)
	made, err := tpm.Seal(t.Context(), bytes.Repeat([]byte("bonjour "), 10), &tpmkey.SealOptions{ParentAuth: tutorialSRK()})
	if err != nil {
		t.Fatal(err)
	}
	opts := &tpmkey.LoadOptions{ParentAuth: tutorialSRK()}
	for _, file := range []*blob.TPMSealed{made.(*blob.TPMSealed), sealed12(t, "sealed-pcr16"), sealed12(t, "sealed-pcr8")} {
		for i := range file.AESKey {
			changed := *file
			changed.AESKey = bytes.Clone(file.AESKey)
			changed.AESKey[i] ^= 0x10
			if _, err := changed.Marshal(changed.Container()); err != nil || i > 80 && i%8 > 0 {
				continue // blob.Parse refuses it, or it is like others
			}
			if data, err := tpm.Unseal(t.Context(), &changed, opts); !errors.Is(err, tpmkey.ErrWrongTPM) {
				t.Errorf("AES key changed at %d: unsealed %q, %v", i, data, err)
			}
		}
	}
	file := *made.(*blob.TPMSealed)
	for i := range file.Ciphertext {
		changed := file
		changed.Ciphertext = bytes.Clone(file.Ciphertext)
		changed.Ciphertext[i] ^= 1
		_, err := tpm.Unseal(t.Context(), &changed, opts)
		tpmtest.WantError(t, err, blob.ErrDamaged, "unseal data: damaged (the encrypted data is not what was sealed; get a good copy of the file)")
	}
	other := sealed12(t, "sealed")
	other.AESKey = file.AESKey
	_, err = tpm.Unseal(t.Context(), other, opts)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "it was sealed by another TPM, or the file is damaged")
	foreign, err := blob.Parse(tpmtest.Fixture(t, "tpm12-wellknown/sealed"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Unseal(t.Context(), foreign, opts)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "another TPM")
	wantTries(t, tpm, 0)
	wantNothingLoaded(t, p)
}
