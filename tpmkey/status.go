package tpmkey

import (
	"context"
	"fmt"
	"maclef/internal/chip"
	"time"
)

// A Status says which TPM this is and what state it is in.
type Status struct {
	Name     string // as Open found it
	Emulator bool   // the software TPM of Open("emulator")
	Family   string // "1.2" or "2.0"

	Vendor    string // four letters at most, such as "IFX"
	Model     string // TPM 2.0: the vendor's own text, such as "SLB9670"
	Firmware  string // such as "3.17"
	SpecLevel int    // of the specification; 2 for all of 1.2, 0 for all of 2.0
	ErrataRev int    // TPM 1.2
	Revision  string // TPM 2.0: of the specification, such as "1.38"

	Enabled bool // TPM 2.0: the storage hierarchy is enabled
	Active  bool // since the last start
	Owned   bool // TPM 2.0: the owner's hierarchy has a secret

	// RestartNeeded: the TPM is deactivated and will be active when it starts
	// anew. TPM 1.2, as all that follows up to Lockout.
	RestartNeeded bool
	// UntilRestart: the TPM is active, and will be deactivated when it starts anew.
	UntilRestart bool
	CanBeOwned   bool  // TakeOwnership is allowed; see AllowOwner
	EK           *bool // there is an endorsement key; nil where the TPM does not tell
	Presence     Presence
	OwnerClear   bool // Clear by the owner's secret is allowed
	ForceClear   bool // Clear by physical presence is allowed

	Lockout  *Lockout // nil where the TPM does not tell
	FreeKeys int      // room for so many more keys; for TPM 1.2, keys of 2048 bits
	MaxKeys  int      // 0 where the TPM does not tell

	// What a TPM 2.0 has: keys, hashes such as "SHA-256", and the handles of keys that it
	// keeps itself. Hashes that are missing here keys sign all the same that may decrypt,
	// too.
	KeyTypes   []KeyType
	Hashes     []string
	Persistent []uint32
}

// Presence says how physical presence can be had.
type Presence struct {
	Asserted  bool // by command, now
	Locked    bool // not by command until the next start
	ByCommand bool // by command, where it is not locked
	BySwitch  bool // by a switch or jumper of the machine
	Fixed     bool // ByCommand and BySwitch can never be changed
}

// A Lockout is the state of the defence against guessing secrets.
type Lockout struct {
	Locked    bool
	Known     bool          // whether the TPM tells the rest
	Tries     int           // wrong secrets so far
	Threshold int           // TPM 1.2: with more than these, the TPM locks; 2.0: with these
	Duration  time.Duration // TPM 1.2: of the whole lock, from the last wrong secret on; 2.0: until one try is forgotten
}

// String is the TPM in a few words, such as "TPM 1.2 IFX 3.17".
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

// Status asks the TPM which one it is and how it is. It needs no secret, and
// works on a TPM without an owner, or disabled, and on TPM 2.0.
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

// Family returns which generation of TPM this is, "1.2" or "2.0", as Status does. It
// asks the TPM nothing.
func (t *TPM) Family() string { return t.chip().Generation().String() }
