package tpmkey_test

import (
	"crypto"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// tapState opens a TPM in a state through a tap, and beside the library.
func tapState(t *testing.T, state tpmtest.State) (*tpmkey.TPM, *tpm12.Conn, *tpmtest.Tap) {
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
	return tpm, tpm12.New(tap), tap
}

// never is a secret that nobody may ask for.
func never(t *testing.T) tpmkey.Secret {
	return tpmkey.AskSecret(func() (tpmkey.Secret, error) {
		t.Error("asked for a secret that is not needed")
		return tpmkey.WellKnown(), nil
	})
}

func TestSetupWithoutRight(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _, _ := tapState(t, tpmtest.WellKnown)
	if _, err := tpm.Disable(t.Context(), tpmkey.Authority{}); err == nil {
		t.Error("disabled by nobody's right")
	}
	if _, err := tpm.Disable(t.Context(), tpmkey.OwnerSecret(tpmkey.Secret{})); err == nil {
		t.Error("disabled without a secret")
	}
	if s, err := tpm.Status(t.Context()); err != nil || !s.Enabled {
		t.Errorf("%+v, %v", s, err)
	}
}

// A secret is asked for only where something is to be done with it.
func TestSetupAsksLate(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _, _ := tapState(t, tpmtest.WellKnown)
	if changed, err := tpm.Enable(t.Context(), tpmkey.OwnerSecret(never(t))); err != nil || changed.Changed {
		t.Error(changed, err)
	}
	if changed, err := tpm.ResetLockout(t.Context(), tpmkey.OwnerSecret(never(t))); err != nil || changed.Changed {
		t.Error(changed, err)
	}
	if changed, err := tpm.Clear(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown()), nil); err != nil || !changed.Changed {
		t.Fatal(changed, err)
	}
	if changed, err := tpm.Clear(t.Context(), tpmkey.OwnerSecret(never(t)), nil); err != nil || changed.Changed {
		t.Error(changed, err)
	}
	_, err := tpm.Enable(t.Context(), tpmkey.OwnerSecret(never(t)))
	tpmtest.WantError(t, err, tpmkey.ErrNotOwned)
	_, err = tpm.ResetLockout(t.Context(), tpmkey.OwnerSecret(never(t)))
	tpmtest.WantError(t, err, tpmkey.ErrDisabled)
}

// While the TPM is locked, nobody is asked, and no try is spent.
func TestSetupInALockout(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, conn, _ := tapState(t, tpmtest.WellKnown)
	wrong := tpmkey.Password([]byte("faux"))
	for range 6 {
		_, err := tpm.Disable(t.Context(), tpmkey.OwnerSecret(wrong))
		tpmtest.WantError(t, err, tpmkey.ErrWrongOwnerSecret, "tries")
	}
	_, err := tpm.Disable(t.Context(), tpmkey.OwnerSecret(never(t)))
	tpmtest.WantError(t, err, tpmkey.ErrLockedOut, "no secret was tried", "wait")
	_, err = tpm.Clear(t.Context(), tpmkey.OwnerSecret(never(t)), nil)
	tpmtest.WantError(t, err, tpmkey.ErrLockedOut)
	if changed, err := tpm.ResetLockout(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown())); err != nil || !changed.Changed {
		t.Fatal(changed, err)
	}
	if info, err := conn.DictionaryAttack(); err != nil || info.Count != 0 || info.Locked {
		t.Errorf("%+v, %v", info, err)
	}
	if changed, err := tpm.Disable(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown())); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
}

// Clearing takes the keys that are loaded with it.
func TestClearLosesKeys(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "maclef")
	if changed, err := tpm.Clear(t.Context(), tpmkey.PhysicalPresence(), nil); err != nil || !changed.Changed {
		t.Fatal(changed, err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("signed with a key of a cleared TPM")
	}
	s, err := tpm.Status(t.Context())
	if err != nil || s.Owned || s.Enabled || !s.Active || !s.UntilRestart || s.FreeKeys != s.MaxKeys {
		t.Errorf("%+v, %v", s, err)
	}
	for _, step := range []func() (tpmkey.Result, error){
		func() (tpmkey.Result, error) { return tpm.Enable(t.Context(), tpmkey.PhysicalPresence()) },
		func() (tpmkey.Result, error) { return tpm.Activate(t.Context()) }, // at once: the TPM has not started since
	} {
		if changed, err := step(); err != nil || !changed.Changed {
			t.Fatal(changed, err)
		}
	}
	if err := tpm.TakeOwnership(t.Context(), tpmkey.WellKnown(), tpmkey.WellKnown()); err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Load(t.Context(), parseFixture(t, "maclef"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM)
}

func TestRestartNeeded(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _, _ := tapState(t, tpmtest.Deactivated)
	for _, want := range []bool{true, false} {
		if result, err := tpm.Activate(t.Context()); err != nil || result.Changed != want || !result.RestartNeeded {
			t.Errorf("%+v, %v", result, err)
		}
	}
	if s, err := tpm.Status(t.Context()); err != nil || s.Active || !s.RestartNeeded {
		t.Errorf("%+v, %v", s, err)
	}
	_, err := tpm.AllowOwner(t.Context())
	if err != nil { // it is allowed already
		t.Error(err)
	}
}

// A chip that refuses everything is explained, not misread.
func TestChipsInTrouble(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for code, words := range map[byte][]string{
		0x1c: {"TPM_FAILEDSELFTEST", "is in failure mode"},
		0x26: {"TPM_INVALID_POSTINIT", "was not started"},
		0x09: {"TPM_FAIL", "the operation failed"},
	} {
		tpm, _, tap := tapState(t, tpmtest.Fresh)
		tap.After = func(int, []byte, []byte, error) ([]byte, error) {
			return []byte{0, 0xc4, 0, 0, 0, 10, 0, 0, 0, code}, nil
		}
		_, err := tpm.Status(t.Context())
		tpmtest.WantError(t, err, tpm12.ResultCode(code), words...)
		_, err = tpm.Enable(t.Context(), tpmkey.PhysicalPresence())
		tpmtest.WantError(t, err, tpm12.ResultCode(code), words...)
		err = tpm.TakeOwnership(t.Context(), never(t), never(t))
		tpmtest.WantError(t, err, tpm12.ResultCode(code), words...)
	}
}

func TestInstallDisabled(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, conn, _ := tapState(t, tpmtest.Fresh)
	for _, p := range []tpm12.Presence{tpm12.PresenceCMDEnable, tpm12.PresencePresent} {
		if err := conn.PhysicalPresence(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetOwnerInstall(false); err != nil {
		t.Fatal(err)
	}
	err := tpm.TakeOwnership(t.Context(), never(t), never(t))
	tpmtest.WantError(t, err, tpm12.InstallDisabled, "taking ownership is forbidden")
	if changed, err := tpm.AllowOwner(t.Context()); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
	if s, err := tpm.Status(t.Context()); err != nil || !s.CanBeOwned {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestSetupOfTPM20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	if changed, err := tpm.Enable(t.Context(), tpmkey.PhysicalPresence()); changed.Changed || err != nil {
		t.Errorf("enabled: %v, %v", changed, err)
	}
	_, err := tpm.Disable(t.Context(), tpmkey.PhysicalPresence())
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "TPM 2.0", "firmware")
	err = tpm.TakeOwnership(t.Context(), never(t), never(t))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "TPM 2.0", "needs no owner")
	s, err := tpm.Status(t.Context())
	if err != nil || s.Family != "2.0" || s.Vendor != "IBM" || s.Model != "SW TPM" || s.Revision == "" ||
		!s.Enabled || s.Owned || s.Lockout.Locked || s.Lockout.Threshold == 0 || s.EK != nil {
		t.Errorf("%+v, %v", s, err)
	}
}
