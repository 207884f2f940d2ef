package chip12

import (
	"errors"
	"fmt"
	"time"

	"maclef/internal/chip"
	"maclef/internal/printable"
	"maclef/internal/tpm12"
)

// Status implements chip.Chip.
func (c *Chip) Status() (*chip.Status, error) {
	s := new(chip.Status)
	for _, read := range []func(*chip.Status) error{c.readVersion, c.readFlags, c.readKeys, c.readLockoutStatus} {
		if err := read(s); err != nil {
			return nil, c.explain(err, nil)
		}
	}
	return s, nil
}

func (c *Chip) readVersion(s *chip.Status) error {
	version, err := c.conn.Version()
	if err != nil {
		return err
	}
	s.Vendor = printable.ASCII(version.VendorID[:])
	s.Firmware = fmt.Sprintf("%d.%d", version.RevMajor, version.RevMinor)
	s.SpecLevel, s.ErrataRev = int(version.SpecLevel), int(version.ErrataRev)
	return nil
}

func (c *Chip) readFlags(s *chip.Status) error {
	flags, err := c.conn.Flags()
	if err != nil {
		return err
	}
	s.Enabled, s.Active = !flags.Disabled, !flags.NowDeactivated
	s.RestartNeeded = flags.NowDeactivated && !flags.Deactivated
	s.UntilRestart = !flags.NowDeactivated && flags.Deactivated
	s.CanBeOwned = flags.CanBeOwned
	s.OwnerClear, s.ForceClear = !flags.DisableOwnerClear, !flags.DisableForceClear
	s.Presence = chip.Presence{
		Asserted: flags.Present, Locked: flags.PresenceLocked, ByCommand: flags.PresenceByCommand,
		BySwitch: flags.PresenceByPin, Fixed: flags.PresenceFixed,
	}
	return nil
}

// readKeys reads which keys the TPM has. An owned TPM has an SRK and an endorsement key.
func (c *Chip) readKeys(s *chip.Status) (err error) {
	if s.Owned, err = c.conn.Owned(); err != nil {
		return err
	}
	free, total, err := c.conn.KeySlots()
	if err != nil {
		return err
	}
	s.FreeKeys, s.MaxKeys = int(free), int(total)
	if s.Owned {
		s.EK = &s.Owned
		return nil
	}
	_, err = c.conn.ReadPubek()
	var refused *tpm12.Error
	there := err == nil
	switch {
	case there, errors.Is(err, tpm12.NoEndorsement):
		s.EK = &there
	case !errors.As(err, &refused): // the TPM does not say, for example because it is disabled
		return err
	}
	return nil
}

func (c *Chip) readLockoutStatus(s *chip.Status) error {
	if err := c.readLockout(); err != nil {
		return err
	}
	if l := c.lockout; l != nil {
		s.Lockout = &chip.Lockout{
			Locked: l.Locked, Known: l.Known, Tries: int(l.Count), Threshold: int(l.Threshold),
			Duration: time.Duration(l.Seconds) * time.Second,
		}
	}
	return nil
}
