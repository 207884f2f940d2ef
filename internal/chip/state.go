package chip

import "time"

// A State tells whether a TPM can be used, and what is missing.
type State struct {
	// Unusable is an ErrDisabled if the TPM refuses most commands, else nil.
	Unusable   error
	Enabled    bool
	Active     bool // since the last start
	ActiveNext bool // from the next start on
	Owned      bool // has an SRK (storage root key)
	CanBeOwned bool
	// NoSecret means that the secret for changing the state was never set.
	NoSecret bool
	// SRKReadable means that the SRK's secret is enough to read its public key.
	SRKReadable bool
	// Locked is an ErrLockedOut if the TPM checks no secrets at present, else nil.
	Locked error
	// NoTries means that the count of wrong secrets is 0.
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
	TakeOwnership // sets Secrets.Owner, and Secrets.Parent as the SRK's secret
	Clear
	ResetLockout
)

// A Status describes the TPM and its state. Package tpmkey documents the fields.
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

// Presence says how physical presence can be asserted.
type Presence struct{ Asserted, Locked, ByCommand, BySwitch, Fixed bool }

// A Lockout is the state of the dictionary attack protection.
type Lockout struct {
	Locked    bool
	Known     bool
	Tries     int
	Threshold int
	Duration  time.Duration
}

// Tries is the TPM's count of wrong secrets at one moment.
type Tries struct {
	Counts bool // the TPM counts wrong values of this secret
	// EmptyFree means that it costs nothing to find out whether a key's secret is the empty one.
	EmptyFree bool
	Known     bool  // Count is set
	Locked    error // ErrLockedOut if the TPM checks no secrets at present, else nil
	Count     int
	Resets    int // resets of a TPM 2.0, which counts a reset without a shutdown command as a wrong secret
	// Announced means that a shutdown command preceded the last reset, which so was not counted.
	Announced bool
}

// An AuthResult says whether a secret was right, as the counts before and after its use show.
type AuthResult int

// The results.
const (
	Unknown AuthResult = iota
	WasWrong
	WasRight
)

// Since compares the counts before and after a secret was used. refused says that the TPM
// answered that the secret is wrong. Otherwise an increase by exactly the number of resets is
// taken to come from the resets. If another process tries a wrong secret at the same time, a
// right secret may look wrong; that is safer than the opposite.
func (now *Tries) Since(before *Tries, refused bool) AuthResult {
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
