package tpm12_test

import (
	"errors"
	"testing"

	oracle "github.com/google/go-tpm/tpm"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// flagsOf reads the flags by this package, and checks those that go-tpm reads, too.
func flagsOf(t *testing.T, conn *tpm12.Conn, tap *tpmtest.Tap) tpm12.Flags {
	t.Helper()
	flags, err := conn.Flags()
	if err != nil {
		t.Fatal(err)
	}
	perm, err := oracle.GetPermanentFlags(&readWriter{tap: tap})
	if err != nil {
		t.Fatal(err)
	}
	if flags.Disabled != perm.Disable || flags.Deactivated != perm.Deactivated || flags.CanBeOwned != perm.Ownership ||
		flags.PresenceByCommand != perm.PhysicalPresenceCMDEnable {
		t.Errorf("flags %+v, want %+v", flags, perm)
	}
	return *flags
}

// Every command changes its flag and no other.
func TestPhysicalPresence(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Fresh)
	want := flagsOf(t, conn, tap)
	if want.Disabled || want.Deactivated || !want.CanBeOwned || want.Present || want.PresenceLocked {
		t.Fatalf("a fresh TPM has %+v", want)
	}
	if err := conn.PhysicalDisable(); !errors.Is(err, tpm12.BadPresence) {
		t.Errorf("without presence: %v", err)
	}
	for _, step := range []struct {
		name   string
		do     func() error
		change func(*tpm12.Flags)
	}{
		{"command enabled", func() error { return conn.PhysicalPresence(tpm12.PresenceCMDEnable) }, func(f *tpm12.Flags) { f.PresenceByCommand = true }},
		{"present", func() error { return conn.PhysicalPresence(tpm12.PresencePresent) }, func(f *tpm12.Flags) { f.Present = true }},
		{"no owner", func() error { return conn.SetOwnerInstall(false) }, func(f *tpm12.Flags) { f.CanBeOwned = false }},
		{"owner", func() error { return conn.SetOwnerInstall(true) }, func(f *tpm12.Flags) { f.CanBeOwned = true }},
		{"deactivated", func() error { return conn.PhysicalSetDeactivated(true) }, func(f *tpm12.Flags) { f.Deactivated = true }},
		{"activated", func() error { return conn.PhysicalSetDeactivated(false) }, func(f *tpm12.Flags) { f.Deactivated = false }},
		{"disabled", conn.PhysicalDisable, func(f *tpm12.Flags) { f.Disabled = true }},
		{"enabled", conn.PhysicalEnable, func(f *tpm12.Flags) { f.Disabled = false }},
		{"cleared", conn.ForceClear, func(f *tpm12.Flags) { f.Disabled, f.Deactivated = true, true }},
		{"not present", func() error { return conn.PhysicalPresence(tpm12.PresenceNotPresent) }, func(f *tpm12.Flags) { f.Present = false }},
		{"locked", func() error { return conn.PhysicalPresence(tpm12.PresenceLock) }, func(f *tpm12.Flags) { f.PresenceLocked = true }},
		{"command disabled", func() error { return conn.PhysicalPresence(tpm12.PresenceCMDDisable) }, func(f *tpm12.Flags) { f.PresenceByCommand = false }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		step.change(&want)
		if got := flagsOf(t, conn, tap); got != want {
			t.Errorf("%s: %+v, want %+v", step.name, got, want)
		}
	}
	if err := conn.PhysicalPresence(tpm12.PresencePresent); !errors.Is(err, tpm12.BadParameter) {
		t.Errorf("locked: %v", err)
	}
}

func TestOwnerCommands(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.WellKnown)
	wrong := &tpm12.Secret{1}
	for name, do := range map[string]func(*tpm12.Secret) error{
		"OwnerClear": conn.OwnerClear, "ResetLockValue": conn.ResetLockValue,
		"OwnerSetDisable": func(s *tpm12.Secret) error { return conn.OwnerSetDisable(true, s) },
	} {
		if err := do(wrong); !errors.Is(err, tpm12.AuthFail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	count := func() int {
		info, err := conn.DictionaryAttack()
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Count)
	}
	if n := count(); n != 3 {
		t.Errorf("%d wrong secrets counted", n)
	}
	if err := conn.ResetLockValue(wellKnown); err != nil || count() != 0 {
		t.Errorf("%v, %d wrong secrets counted", err, count())
	}
	for _, disable := range []bool{true, false} {
		if err := conn.OwnerSetDisable(disable, wellKnown); err != nil {
			t.Fatal(err)
		}
		if got := flagsOf(t, conn, tap).Disabled; got != disable {
			t.Errorf("disabled %v", got)
		}
	}
	if err := conn.OwnerClear(wellKnown); err != nil {
		t.Fatal(err)
	}
	if owned, err := conn.Owned(); err != nil || owned {
		t.Errorf("owned %v, %v", owned, err)
	}
	if sessions, err := conn.Sessions(); err != nil || len(sessions) != 0 {
		t.Errorf("%d sessions left, %v", len(sessions), err)
	}
}
