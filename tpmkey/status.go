package tpmkey

import (
	"fmt"
	"time"
)

// A Status says which TPM this is and what state it is in.
type Status struct {
	Name     string // as Open found it
	Emulator bool   // the software TPM of Open("emulator")
	Family   string // "1.2" or "2.0"; where it is "2.0", nothing below is known

	Vendor    string // four letters at most, such as "IFX"
	Firmware  string // such as "3.17"
	SpecLevel int    // of the specification; 2 for all of 1.2
	ErrataRev int

	Enabled bool
	Active  bool
	Owned   bool

	Lockout  *Lockout // nil where the TPM does not tell
	FreeKeys int      // room for so many more keys of 2048 bits
	MaxKeys  int
}

// A Lockout is the state of the defence against guessing secrets.
type Lockout struct {
	Locked    bool
	Known     bool          // whether the TPM tells the rest
	Tries     int           // wrong secrets so far
	Threshold int           // with more than these, the TPM locks
	Duration  time.Duration // of the whole lock, from the last wrong secret on
}

// String is the TPM in a few words, such as "TPM 1.2 IFX 3.17".
func (s *Status) String() string {
	out := "TPM " + s.Family
	if s.Vendor != "" {
		out += " " + s.Vendor
	}
	if s.Firmware != "" {
		out += " " + s.Firmware
	}
	if s.Emulator {
		out += " (software, protects nothing)"
	}
	return out
}

// Status asks the TPM which one it is and how it is. It needs no secret, and
// works on a TPM without an owner, or disabled.
func (t *TPM) Status() (*Status, error) {
	var s *Status
	err := t.turn(func() (err error) {
		s, err = t.chip.status()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the TPM's status: %w", err)
	}
	s.Name, s.Emulator = t.Name(), t.Emulator()
	return s, nil
}

func (c *chip12) status() (*Status, error) {
	s := &Status{Family: "1.2"}
	version, err := c.conn.Version()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	s.Vendor = printable(version.VendorID[:])
	s.Firmware = fmt.Sprintf("%d.%d", version.RevMajor, version.RevMinor)
	s.SpecLevel, s.ErrataRev = int(version.SpecLevel), int(version.ErrataRev)
	flags, err := c.conn.Flags()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	s.Enabled, s.Active = !flags.Disabled, !flags.Deactivated && !flags.NowDeactivated
	if s.Owned, err = c.conn.Owned(); err != nil {
		return nil, c.explain(err, nil)
	}
	if err := c.readLockout(); err != nil {
		return nil, c.explain(err, nil)
	}
	if l := c.lockout; l != nil {
		s.Lockout = &Lockout{
			Locked: l.Locked, Known: l.Known, Tries: int(l.Count), Threshold: int(l.Threshold),
			Duration: time.Duration(l.Seconds) * time.Second,
		}
	}
	free, total, err := c.conn.KeySlots()
	if err != nil {
		return nil, c.explain(err, nil)
	}
	s.FreeKeys, s.MaxKeys = int(free), int(total)
	return s, nil
}

// printable drops what is not a letter or digit from a vendor's four bytes.
func printable(id []byte) string {
	var out []byte
	for _, b := range id {
		if b > ' ' && b < 0x7f {
			out = append(out, b)
		}
	}
	return string(out)
}
