package chip

import "time"

// A State is how far a TPM is from being usable.
type State struct {
	// Unusable says why the TPM does not take commands of every kind: it is an ErrDisabled,
	// or nil.
	Unusable   error
	Enabled    bool
	Active     bool // since the last start
	ActiveNext bool // from the next start on
	Owned      bool // it has an SRK to load keys under
	CanBeOwned bool
	// NoSecret says that nobody has set the secret that changing it takes.
	NoSecret bool
	// SRKReadable says that the SRK's public key takes its secret only, not the owner's.
	SRKReadable bool
	// Locked is an ErrLockedOut where a secret would not be looked at, else nil.
	Locked error
	// NoTries says that no wrong secret is counted.
	NoTries bool
}

// A Change is a change of a TPM's state.
type Change int

// The changes.
const (
	Enable Change = iota
	Disable
	Activate   // from the next start on
	Deactivate // from the next start on
	AllowOwner
	TakeOwnership // with the secrets Owner and Parent, of the SRK
	Clear
	ResetLockout
)

// A Status says which TPM this is, and how it is. Package tpmkey documents the fields.
type Status struct {
	Vendor    string
	Model     string
	Firmware  string
	SpecLevel int
	ErrataRev int
	Revision  string

	Enabled bool
	Active  bool
	Owned   bool

	RestartNeeded bool
	UntilRestart  bool
	CanBeOwned    bool
	EK            *bool
	Presence      Presence
	OwnerClear    bool
	ForceClear    bool

	Lockout  *Lockout
	FreeKeys int
	MaxKeys  int

	KeyTypes   []KeyType
	Hashes     []string
	Persistent []uint32
}

// Presence says how physical presence can be had.
type Presence struct{ Asserted, Locked, ByCommand, BySwitch, Fixed bool }

// A Lockout is the state of the dictionary attack protection.
type Lockout struct {
	Locked    bool
	Known     bool
	Tries     int
	Threshold int
	Duration  time.Duration
}

// Tries are what a TPM counts of wrong secrets.
type Tries struct {
	Counts bool  // it counts wrong ones of this secret
	Known  bool  // it tells how many there were
	Locked error // ErrLockedOut where it looks at no secret for a while, else nil
	Count  int
	Resets int // how often the TPM was reset; a TPM 2.0 that was not told counts that as a wrong secret
	// Announced says that the TPM was told of the last reset, and so did not count it.
	Announced bool
}

// A Verdict is what the TPM's count says of a secret.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota
	WasWrong
	WasRight
)

// Since compares with what was counted before a secret was used. As many more as there
// were resets are those of the resets, unless the TPM has said itself that the secret is
// wrong. Another process's wrong secret can make a right one look wrong; that is the
// better mistake.
func (now *Tries) Since(before *Tries, refused bool) Verdict {
	more, resets := now.Count-before.Count, now.Resets-before.Resets
	if resets > 0 && now.Announced {
		resets--
	}
	switch {
	case !before.Known || !now.Known:
		return Unknown
	case more == 0, more == resets && !refused:
		return WasRight
	case more > resets && more > 0, refused && more > 0:
		return WasWrong
	}
	return Unknown
}
