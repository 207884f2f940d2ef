package tpmkey

import (
	"maclef/internal/chip"
	"maclef/internal/transport"
)

// Errors that a caller may want to decide on, found with errors.Is. The text of
// the error that wraps them says why.
var (
	// ErrNoTPM: there is no TPM at that name, or none at all.
	ErrNoTPM = transport.ErrNoTPM
	// ErrPermission: this user may not use the TPM.
	ErrPermission = transport.ErrPermission
	// ErrBusy: other processes used the TPM for longer than this one was to wait.
	ErrBusy = transport.ErrBusy
	// ErrGone: the connection to the TPM was lost, and repeating the command did not
	// help or was not safe.
	ErrGone = transport.ErrGone
	// ErrNoSWTPM: the emulator needs the program swtpm, and it is not installed.
	ErrNoSWTPM = transport.ErrNoSWTPM

	// ErrNotOwned: the TPM has no owner, so it has no SRK to load keys under.
	ErrNotOwned = chip.ErrNotOwned
	// ErrDisabled: the TPM is disabled or deactivated.
	ErrDisabled = chip.ErrDisabled
	// ErrFailed: the TPM is in failure mode and does nothing.
	ErrFailed = chip.ErrFailed
	// ErrPhysicalPresence: what was asked wants somebody at the machine, and a
	// program cannot stand in for them: the firmware's menu can.
	ErrPhysicalPresence = chip.ErrPhysicalPresence
	// ErrLockedOut: the TPM refuses every secret for a while, right or wrong,
	// because too many were wrong.
	ErrLockedOut = chip.ErrLockedOut

	// ErrWrongSRKSecret: the secret of the storage root key was wrong, and a try
	// was spent.
	ErrWrongSRKSecret = chip.ErrWrongSRKSecret
	// ErrPolicy: the policy of a key, or of sealed data, is not met, such as when a PCR
	// differs. Nothing was tried that the TPM counts.
	ErrPolicy = chip.ErrPolicy
	// ErrWrongKeySecret: the secret of the key was wrong, and a try was spent. A
	// Key that has met it refuses further operations without asking the TPM.
	// Load the key again for another try.
	ErrWrongKeySecret = chip.ErrWrongKeySecret
	// ErrWrongOwnerSecret: the owner's secret was wrong, and a try was spent.
	ErrWrongOwnerSecret = chip.ErrWrongOwnerSecret
	// ErrSecretNeeded: a secret is needed and none was given.
	ErrSecretNeeded = chip.ErrSecretNeeded

	// ErrWrongTPM: the key file belongs to another TPM, to this one before it was
	// cleared, or is damaged.
	ErrWrongTPM = chip.ErrWrongTPM
	// ErrNoParent: the key's parent is not in this TPM.
	ErrNoParent = chip.ErrNoParent
	// ErrNoKey: this TPM keeps no key at that handle.
	ErrNoKey = chip.ErrNoKey
	// ErrWrongGeneration: the key file is for TPMs of the other generation, 1.2 or 2.0.
	ErrWrongGeneration = chip.ErrWrongGeneration
	// ErrUnloaded: the TPM loses the key as often as it is loaded: it restarts, or
	// somebody flushes it.
	ErrUnloaded = chip.ErrUnloaded
	// ErrNotSupported: this key, or this TPM, cannot do what was asked.
	ErrNotSupported = chip.ErrNotSupported
	// ErrClosed: the TPM or the key was closed.
	ErrClosed = chip.ErrClosed
)
