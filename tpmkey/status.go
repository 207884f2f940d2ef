package tpmkey

import (
	"context"
	"fmt"
	"maclef/internal/chip"
	"time"
)

// A Status describes a TPM and its state.
type Status struct {
	Name     string // see TPM.Name
	Emulator bool   // the software TPM of Open("emulator") or Open("emulator2")
	Family   string // "1.2" or "2.0"

	Vendor    string // at most four letters, such as "IFX"
	Model     string // TPM 2.0: the vendor's own text, such as "SLB9670"
	Firmware  string // such as "3.17"
	SpecLevel int    // level of the specification: 2 for all of 1.2, 0 for all of 2.0
	ErrataRev int    // TPM 1.2
	Revision  string // TPM 2.0: revision of the specification, such as "1.38"

	Enabled bool // TPM 2.0: the storage hierarchy is enabled
	Active  bool // since the last start
	Owned   bool // TPM 2.0: the owner's hierarchy has a secret

	// RestartNeeded: the TPM is deactivated, and will be active after its next start. This field
	// and those up to Lockout are for TPM 1.2.
	RestartNeeded bool
	// UntilRestart: the TPM is active, and will be deactivated after its next start.
	UntilRestart bool
	CanBeOwned   bool  // TakeOwnership is allowed; see AllowOwner
	EK           *bool // there is an endorsement key; nil if the TPM does not report it
	Presence     Presence
	OwnerClear   bool // Clear with the owner's secret is allowed
	ForceClear   bool // Clear with physical presence is allowed

	Lockout  *Lockout // nil if the TPM does not report it
	FreeKeys int      // free slots for keys; for TPM 1.2, of 2048 bits
	MaxKeys  int      // 0 if the TPM does not report it

	// TPM 2.0: the types of keys, the hashes, such as "SHA-256", and the handles of persistent
	// keys. A key without a scheme that may decrypt signs other hashes, too.
	KeyTypes   []KeyType
	Hashes     []string
	Persistent []uint32
}

// Presence says how physical presence can be asserted.
type Presence struct {
	Asserted  bool // asserted by command at present
	Locked    bool // cannot be asserted by command until the next start
	ByCommand bool // can be asserted by command, unless Locked
	BySwitch  bool // can be asserted by a switch or jumper of the machine
	Fixed     bool // ByCommand and BySwitch can never be changed
}

// A Lockout is the state of the dictionary-attack protection.
type Lockout struct {
	Locked    bool
	Known     bool          // the TPM reports the other fields
	Tries     int           // wrong secrets so far
	Threshold int           // the TPM locks at this count; TPM 1.2: above it
	Duration  time.Duration // TPM 1.2: duration of the lock after the last wrong secret; 2.0: time until the count decreases by one
}

// String returns a short description, such as "TPM 1.2 IFX 3.17".
func (s *Status) String() string {
	out := "TPM " + s.Family
	for _, word := range []string{s.Vendor, s.Model, s.Firmware} {
		if word != "" {
			out += " " + word
		}
	}
	if s.Emulator {
		out += " (software, protects nothing)"
	}
	return out
}

// Status reads the TPM's status. It needs no secret, and works on a TPM without an owner and on a
// disabled one.
func (t *TPM) Status(ctx context.Context) (*Status, error) {
	var c *chip.Status
	err := t.run(ctx, func() (err error) {
		c, err = t.chip().Status()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the TPM's status: %w", err)
	}
	s := &Status{
		Name: t.Name(), Emulator: t.Emulator(), Family: t.Family(),
		Vendor: c.Vendor, Model: c.Model, Firmware: c.Firmware, SpecLevel: c.SpecLevel, ErrataRev: c.ErrataRev, Revision: c.Revision,
		Enabled: c.Enabled, Active: c.Active, Owned: c.Owned, RestartNeeded: c.RestartNeeded, UntilRestart: c.UntilRestart,
		CanBeOwned: c.CanBeOwned, EK: c.EK, Presence: Presence(c.Presence), OwnerClear: c.OwnerClear, ForceClear: c.ForceClear,
		Lockout: (*Lockout)(c.Lockout), FreeKeys: c.FreeKeys, MaxKeys: c.MaxKeys, Hashes: c.Hashes, Persistent: c.Persistent,
	}
	for _, kind := range c.KeyTypes {
		s.KeyTypes = append(s.KeyTypes, KeyType(kind))
	}
	return s, nil
}

// Family returns the TPM's generation, "1.2" or "2.0". It sends nothing.
func (t *TPM) Family() string { return t.chip().Generation().String() }
