package tpmkey

import (
	"errors"

	"maclef/internal/transport"
)

// Errors that a caller may want to decide on, found with errors.Is. The text of
// the error that wraps them says what to do.
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
	ErrNotOwned = errors.New("the TPM has no owner")
	// ErrDisabled: the TPM is disabled or deactivated.
	ErrDisabled = errors.New("the TPM is disabled or deactivated")
	// ErrFailed: the TPM is in failure mode and does nothing.
	ErrFailed = errors.New("the TPM has failed")
	// ErrPhysicalPresence: what was asked wants somebody at the machine, and a
	// program cannot stand in for them: the firmware's menu can.
	ErrPhysicalPresence = errors.New("physical presence is needed")
	// ErrRestartNeeded: the TPM has been told; it obeys when it starts anew.
	ErrRestartNeeded = errors.New("a restart is needed")
	// ErrLockedOut: the TPM refuses every secret for a while, right or wrong,
	// because too many were wrong.
	ErrLockedOut = errors.New("the TPM is locked out after too many wrong secrets")

	// ErrWrongSRKSecret: the secret of the storage root key was wrong, and a try
	// was spent.
	ErrWrongSRKSecret = errors.New("wrong SRK secret")
	// ErrWrongKeySecret: the secret of the key was wrong, and a try was spent. A
	// Key that has met it refuses further operations without asking the TPM.
	// Load the key again for another try.
	ErrWrongKeySecret = errors.New("wrong key secret")
	// ErrWrongOwnerSecret: the owner's secret was wrong, and a try was spent.
	ErrWrongOwnerSecret = errors.New("wrong owner secret")
	// ErrSecretNeeded: a secret is needed and none was given.
	ErrSecretNeeded = errors.New("a secret is needed")

	// ErrWrongTPM: the key file belongs to another TPM, to this one before it was
	// cleared, or is damaged.
	ErrWrongTPM = errors.New("not a key of this TPM")
	// ErrNoParent: the key's parent is not in this TPM.
	ErrNoParent = errors.New("the key's parent is missing")
	// ErrNoKey: this TPM keeps no key at that handle.
	ErrNoKey = errors.New("no key there")
	// ErrWrongGeneration: the key file is for TPMs of the other generation, 1.2 or 2.0.
	ErrWrongGeneration = errors.New("not a key for this generation of TPM")
	// ErrUnloaded: the TPM loses the key as often as it is loaded: it restarts, or
	// somebody flushes it.
	ErrUnloaded = errors.New("the TPM has lost the key")
	// ErrNotSupported: this key, or this TPM, cannot do what was asked.
	ErrNotSupported = errors.New("not supported")
	// ErrClosed: the TPM or the key was closed.
	ErrClosed = errors.New("already closed")
)
