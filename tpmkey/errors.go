package tpmkey

import (
	"errors"
	"fmt"
	"maclef/internal/chip"
	"maclef/internal/transport"
)

// Errors that callers can find with errors.Is. The error that wraps them has the details.
var (
	// ErrNoTPM: there is no TPM with that name, or none at all; or the program swtpm, which the
	// software TPM needs, is not installed.
	ErrNoTPM = transport.ErrNoTPM
	// ErrPermission: this user may not use the TPM.
	ErrPermission = transport.ErrPermission
	// ErrBusy: other processes used the TPM for longer than OpenOptions.Wait.
	ErrBusy = transport.ErrBusy
	// ErrGone: the connection to the TPM was lost, or the TPM lost the key again after it was
	// reloaded. Repeating the command did not help, or was not safe.
	ErrGone = transport.ErrGone

	// ErrNotOwned: the TPM has no owner, so it has no SRK to load keys under.
	ErrNotOwned = chip.ErrNotOwned
	// ErrDisabled: the TPM is disabled or deactivated.
	ErrDisabled = chip.ErrDisabled
	// ErrPhysicalPresence: the operation needs physical presence, which programs cannot assert on
	// this machine. The firmware's menu can.
	ErrPhysicalPresence = chip.ErrPhysicalPresence
	// ErrLockedOut: the TPM refuses every secret for a while, because too many were wrong. If this
	// secret was the last of them, the error is ErrWrongKeySecret or the like, too.
	ErrLockedOut = chip.ErrLockedOut

	// ErrWrongSRKSecret: the secret of the storage root key was wrong, and a try
	// was spent.
	ErrWrongSRKSecret = chip.ErrWrongSRKSecret
	// ErrPolicy: the policy of a key or of sealed data is not met, for example because a PCR
	// differs. No try was spent.
	ErrPolicy = chip.ErrPolicy
	// ErrWrongKeySecret: the secret of the key was wrong, and a try was spent. The Key then
	// refuses further operations without asking the TPM. Load the key again for another try.
	ErrWrongKeySecret = chip.ErrWrongKeySecret
	// ErrWrongOwnerSecret: the owner's secret was wrong, and a try was spent.
	ErrWrongOwnerSecret = chip.ErrWrongOwnerSecret
	// ErrSecretNeeded: a secret is needed and none was given.
	ErrSecretNeeded = chip.ErrSecretNeeded

	// ErrWrongTPM: the key file belongs to another TPM, or to this one before it was cleared, or
	// is damaged.
	ErrWrongTPM = chip.ErrWrongTPM
	// ErrNoParent: the key's parent is not in this TPM.
	ErrNoParent = chip.ErrNoParent
	// ErrMovableParent: the key's parent has no fixedTPM, and its secret was given, or to be asked for.
	// LoadOptions.MovableParent allows that.
	ErrMovableParent = chip.ErrMovableParent
	// ErrNoKey: this TPM has no key at that handle.
	ErrNoKey = chip.ErrNoKey
	// ErrWrongGeneration: the key file is for TPMs of the other generation, 1.2 or 2.0.
	ErrWrongGeneration = chip.ErrWrongGeneration
	// ErrNotSupported: this key, or this TPM, cannot do what was asked.
	ErrNotSupported = chip.ErrNotSupported
	// ErrClosed: the TPM or the key was closed.
	ErrClosed = chip.ErrClosed
)

// An Error is an operation's error that has a result code of the TPM. It is found with errors.As.
// errors.Is finds the errors above in it.
type Error struct {
	Op      string // what was being done, such as "sign"
	Command string // the specification's name, such as "TPM2_Sign"
	Code    uint32 // the result code
	Name    string // its name, such as "TPM_RC_AUTH_FAIL"; empty for a vendor's code
	err     error
}

// Error returns what was being done, and why it failed.
func (e *Error) Error() string { return e.Op + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// doingError adds what was being done to err.
func doingError(op string, err error) error {
	if err == nil {
		return nil
	}
	var refused interface {
		Result() (command string, code uint32, name string)
	}
	if !errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", op, err)
	}
	e := &Error{Op: op, err: err}
	e.Command, e.Code, e.Name = refused.Result()
	return e
}
