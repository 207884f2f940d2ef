package tpmkey_test

import (
	"encoding/binary"
	"testing"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Physical presence, and whether it can be asserted by command, are afterwards as
// they were before, whatever became of the command.
func TestPresenceIsTakenBack(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, conn, tap := tapState(t, tpmtest.Fresh)
	before, err := conn.Flags()
	if err != nil || before.Present || before.PresenceByCommand {
		t.Fatalf("%+v, %v", before, err)
	}
	for name, do := range map[string]func() error{
		"disable":    func() error { _, err := tpm.Disable(t.Context(), tpmkey.PhysicalPresence()); return err },
		"enable":     func() error { _, err := tpm.Enable(t.Context(), tpmkey.PhysicalPresence()); return err },
		"deactivate": func() error { _, err := tpm.Deactivate(t.Context()); return err },
		"activate":   func() error { _, err := tpm.Activate(t.Context()); return err },
	} {
		err := do()
		if after, flagsErr := conn.Flags(); err != nil || flagsErr != nil || after.Present || after.PresenceByCommand {
			t.Errorf("%s: %v; %+v, %v", name, err, after, flagsErr)
		}
	}
	const physicalDisable = 0x70
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if binary.BigEndian.Uint32(cmd[6:]) == physicalDisable {
			return []byte{0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 9}, nil // TPM_FAIL
		}
		return rsp, err
	}
	if _, err := tpm.Enable(t.Context(), tpmkey.PhysicalPresence()); err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Disable(t.Context(), tpmkey.PhysicalPresence())
	tpmtest.WantError(t, err, tpm12.Fail, "disable the TPM", "the operation failed")
	if after, err := conn.Flags(); err != nil || after.Present || after.PresenceByCommand {
		t.Errorf("%+v, %v", after, err)
	}
}

// Physical presence that somebody else asserted stays asserted.
func TestPresenceOfOthers(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, conn, _ := tapState(t, tpmtest.Fresh)
	for _, p := range []tpm12.Presence{tpm12.PresenceCMDEnable, tpm12.PresencePresent} {
		if err := conn.PhysicalPresence(p); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := tpm.Disable(t.Context(), tpmkey.PhysicalPresence()); err != nil || !changed.Changed {
		t.Fatal(changed, err)
	}
	if after, err := conn.Flags(); err != nil || !after.Present || !after.PresenceByCommand {
		t.Errorf("%+v, %v", after, err)
	}
}

// A machine with a switch of its own: only trying tells how it stands.
func TestPresenceBySwitch(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	const hardware = tpm12.Presence(0x40) // TPM_PHYSICAL_PRESENCE_HW_ENABLE
	tpm, conn, _ := tapState(t, tpmtest.Fresh)
	for _, p := range []tpm12.Presence{hardware, tpm12.PresenceCMDEnable, tpm12.PresenceLock} {
		if err := conn.PhysicalPresence(p); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tpm.Disable(t.Context(), tpmkey.PhysicalPresence())
	tpmtest.WantError(t, err, tpmkey.ErrPhysicalPresence, "TPM_BAD_PRESENCE", "switch or jumper")
}
