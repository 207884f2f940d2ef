package tpmkey_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A TPM that will be deactivated works until it starts anew.
func TestUntilRestart(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _, _ := tapState(t, tpmtest.Fresh)
	if changed, err := tpm.Deactivate(t.Context()); err != nil || !changed.Changed {
		t.Fatal(changed, err)
	}
	if s, err := tpm.Status(t.Context()); err != nil || !s.Active || !s.UntilRestart || s.RestartNeeded {
		t.Errorf("%+v, %v", s, err)
	}
	if err := tpm.TakeOwnership(t.Context(), tpmkey.WellKnown(), tpmkey.WellKnown()); err != nil {
		t.Fatal(err)
	}
	if changed, err := tpm.Clear(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown()), nil); err != nil || !changed.Changed {
		t.Error(changed, err)
	}
}

// Clear asks for a confirmation after it has checked what needs no secret, and clears
// nothing without one.
func TestClearConfirm(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, _, _ := tapState(t, tpmtest.WellKnown)
	owner, no := tpmkey.OwnerSecret(never(t)), errors.New("no")
	for _, by := range []tpmkey.Authority{owner, tpmkey.PhysicalPresence()} {
		if result, err := tpm.Clear(t.Context(), by, func() error { return no }); err != no || result.Changed {
			t.Error(result, err)
		}
	}
	if s, err := tpm.Status(t.Context()); err != nil || !s.Owned {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := tpm.Disable(t.Context(), tpmkey.PhysicalPresence()); err != nil {
		t.Fatal(err)
	}
	_, err := tpm.Clear(t.Context(), owner, func() error { t.Error("asked"); return nil })
	tpmtest.WantError(t, err, tpmkey.ErrDisabled, "clear the TPM")
}

// A TPM that does not tell for the moment whether it is locked is tried no secret
// on; one that never tells is.
func TestLockoutUnknown(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	const getCapability, areaAt, capDALogic = 0x65, 13, 0x19
	for code, tried := range map[tpm12.ResultCode]bool{
		tpm12.Retry: false, tpm12.NeedsSelfTest: false, tpm12.DoingSelfTest: false, tpm12.DefendLockRunning: false,
		tpm12.BadMode: true, tpm12.BadParameter: true,
	} {
		t.Run(code.Name(), func(t *testing.T) {
			t.Parallel()
			p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.WellKnown))
			tpm := openWaiting(t, p.Name, impatience)
			p.Arm(0, tpmtest.Fault{Repeat: math.MaxInt32, Answer: func(cmd, rsp []byte) []byte {
				if cmd[9] == getCapability && cmd[areaAt] == capDALogic {
					return tpmtest.ErrorReply(uint32(code))
				}
				return rsp
			}})
			asked := false
			_, err := tpm.Disable(t.Context(), tpmkey.OwnerSecret(tpmkey.AskSecret(func() (tpmkey.Secret, error) {
				asked = true
				return tpmkey.WellKnown(), nil
			})))
			if asked != tried || tried != (err == nil) {
				t.Errorf("%v: asked %v, %v", code, asked, err)
			}
			if code == tpm12.DefendLockRunning {
				tpmtest.WantError(t, err, tpmkey.ErrLockedOut)
			}
		})
	}
}

// impatience is how long a TPM is waited for here that is never ready.
const impatience = 300 * time.Millisecond

func TestOpenDuringSelfTest(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Fresh))
	p.Arm(0, tpmtest.RefusedOften(uint32(tpm12.DoingSelfTest), math.MaxInt32))
	tpm := openWaiting(t, p.Name, impatience)
	_, err := tpm.Status(t.Context())
	tpmtest.WantError(t, err, tpm12.DoingSelfTest, "testing itself")
	p.Disarm()
	if s, err := tpm.Status(t.Context()); err != nil || s.Lockout == nil || !s.Lockout.Known {
		t.Errorf("%+v, %v", s, err)
	}
}
