package chip

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"maclef/internal/transport"
)

// Errors that callers check for. Package tpmkey documents them.
var (
	ErrNotOwned         = errors.New("the TPM has no owner")
	ErrDisabled         = errors.New("the TPM is disabled or deactivated")
	ErrFailed           = errors.New("the TPM has failed")
	ErrPhysicalPresence = errors.New("physical presence is needed")
	ErrLockedOut        = errors.New("the TPM is locked out after too many wrong secrets")
	ErrWrongSRKSecret   = errors.New("wrong SRK secret")
	ErrWrongKeySecret   = errors.New("wrong key secret")
	ErrWrongOwnerSecret = errors.New("wrong owner secret")
	ErrSecretNeeded     = errors.New("a secret is needed")
	ErrWrongTPM         = errors.New("not a key of this TPM")
	ErrNoParent         = errors.New("the key's parent is missing")
	ErrMovableParent    = errors.New("the key's parent may exist outside of this TPM, too")
	ErrNoKey            = errors.New("no key there")
	ErrWrongGeneration  = errors.New("not a key for this generation of TPM")
	ErrUnloaded         = WithText("the TPM has lost the key", transport.ErrGone)
	ErrNotSupported     = errors.New("not supported")
	ErrPolicy           = errors.New("the policy is not met")
	ErrClosed           = errors.New("already closed")
)

// Errors that chip12 and chip20 return to keymgr.
var (
	// ErrNoOwnSession means that each command needs the key's secret.
	ErrNoOwnSession = errors.New("the secret is needed for each command")
	// ErrOtherContext means that a context from disk is not one of the key. No other command was
	// sent.
	ErrOtherContext = fmt.Errorf("the context on disk is of another key: %w", transport.ErrNotSent)
	// ErrNextPolicy is an ErrPolicy: the TPM has refused a command after a signed policy, and
	// another one may do. The key runs that next.
	ErrNextPolicy = WithText(ErrPolicy.Error(), ErrPolicy)
	// ErrDecryption means that the ciphertext is not valid for this key. It has no details,
	// because an attacker could learn about the padding from them.
	ErrDecryption = WithText("decryption error: this is no ciphertext for this key", rsa.ErrDecryption)
	// ErrRefusedCiphertext is an ErrDecryption that only a result code says. Nobody authenticates
	// result codes, so it does not show that the secret was right.
	ErrRefusedCiphertext = WithText(ErrDecryption.Error(), ErrDecryption)
	// ErrBadSignature means that the TPM's signature does not verify with the key.
	ErrBadSignature = errors.New("the TPM returned a signature that is not one of this key: the chip or its connection is faulty")
)

// More specific errors of these kinds. Package advice handles them separately.
var (
	// ErrNoSRK is an ErrNotOwned.
	ErrNoSRK = OfKind(ErrNotOwned, "so it has no storage root key", nil)
	// ErrOwned means that ownership cannot be taken.
	ErrOwned = errors.New("the TPM has an owner already, and its keys work on")
	// ErrEnded is an ErrWrongTPM: the key was made under the null hierarchy, before a restart.
	ErrEnded = WithText("the key has ended", ErrWrongTPM)
	// ErrKeyLimits is an ErrNotSupported of this key; the TPM can do the operation with other
	// keys.
	ErrKeyLimits = WithText(ErrNotSupported.Error(), ErrNotSupported)
	// ErrUnknownPolicy is an ErrPolicy: only the digest of the key's policy is known.
	ErrUnknownPolicy = WithText("the steps of its policy are not known", ErrPolicy)
	// ErrOtherPolicy is an ErrPolicy: the given policy is not that of the key, or not with the
	// present PCRs.
	ErrOtherPolicy = WithText("not the policy that it was made with", ErrPolicy)
	// ErrPolicySecret is an ErrPolicy that another secret would prevent.
	ErrPolicySecret = WithText(ErrPolicy.Error(), ErrPolicy)
	// ErrWrongPolicySecret is an ErrWrongKeySecret: the policy asks for the secret of another
	// entity.
	ErrWrongPolicySecret = WithText("wrong secret", ErrWrongKeySecret)
	// ErrHasSecret is an ErrWrongKeySecret of the empty secret, which was tried because the file
	// says that the key has none.
	ErrHasSecret = WithText("wrong key secret: the key has one, although its file says that it has none", ErrWrongKeySecret)
	// ErrWrongSealedSecret is an ErrWrongKeySecret of sealed data.
	ErrWrongSealedSecret = WithText("wrong secret of the sealed data", ErrWrongKeySecret)
	// ErrWrongLockoutSecret is an ErrWrongOwnerSecret: a TPM 2.0 takes the secret of its lockout
	// hierarchy instead.
	ErrWrongLockoutSecret = WithText("wrong lockout secret", ErrWrongOwnerSecret)
	// ErrWasDefault belongs to the error of a wrong secret, if that was the default one: well-known, or
	// empty.
	ErrWasDefault = errors.New("the secret was the default one")
	// ErrNotWrappable is an ErrNotSupported: no TPM of this generation takes the software key.
	ErrNotWrappable = WithText(ErrNotSupported.Error(), ErrNotSupported)
)

// A KindError is an error of a kind (Kind, found with errors.Is), with details.
type KindError struct {
	Kind   error
	Detail string
	Cause  error // may be nil
}

// OfKind returns a KindError; cause may be nil.
func OfKind(kind error, detail string, cause error) error { return &KindError{kind, detail, cause} }

func (e *KindError) Error() string   { return fmt.Sprintf("%v (%s)", e.Kind, e.Detail) }
func (e *KindError) Unwrap() []error { return []error{e.Kind, e.Cause} } // errors.Is ignores a nil cause

// LockedOut returns the ErrLockedOut of a secret that was not tried. lockTime says how long the TPM
// stays locked; it begins with a semicolon.
func LockedOut(lockTime string) error {
	return OfKind(ErrLockedOut, "no secret was tried"+lockTime, nil)
}

// LastTry returns the error of a wrong secret that locked the TPM: it is an ErrLockedOut, too.
// lockTime says how long the TPM stays locked; it begins with a semicolon.
func LastTry(kind error, detail, lockTime string, cause error) error {
	return OfKind(kind, detail+"; the TPM is locked out now"+lockTime, errors.Join(cause, ErrLockedOut))
}

// MarkDefaultSecret adds an ErrWasDefault to the error of a wrong secret if that was the default one.
// It returns other errors as they are. tried is nil if the secret is not known.
func MarkDefaultSecret(err error, tried AuthData) error {
	isWrong := errors.Is(err, ErrWrongSRKSecret) || errors.Is(err, ErrWrongKeySecret) || errors.Is(err, ErrWrongOwnerSecret)
	if !isWrong || tried == nil || slices.ContainsFunc(tried, func(b byte) bool { return b != 0 }) {
		return err
	}
	return WithText(err.Error(), errors.Join(err, ErrWasDefault))
}

// WithText returns an error that wraps kind and has its own text.
func WithText(text string, kind error) error { return &textError{text, kind} }

type textError struct {
	text string
	kind error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.kind }

// SecretTried reports whether the command that failed with err may have been checked by the TPM.
func SecretTried(err error) bool {
	var unanswered interface{ SecretTried() bool }
	return !errors.As(err, &unanswered) || unanswered.SecretTried()
}

// An ErrClass says what an error means for the loaded keys and sessions, and so how to handle it.
type ErrClass int

// The classes of errors.
const (
	ClassNone          ErrClass = iota
	ClassRefused                // any other error reply; nothing has changed
	ClassAuth                   // the TPM refused a secret
	ClassNoKeySlot              // no free slot for a key
	ClassNoSessionSlot          // no free slot for a session
	ClassTooManySaved           // too many saved sessions, or one that is too old
	ClassLost                   // a key or session is not loaded: it was flushed, or the handle is wrong
	ClassNotStarted             // the TPM needs a startup command
	ClassNotSent                // the command did not reach the TPM
	ClassUnanswered             // unknown whether the command was executed
	ClassUnavailable            // no access to the TPM, or it is closed
	ClassSecretNeeded           // the user must be asked for a secret
	ClassBadResult              // the result does not verify with the key
	ClassNextPolicy             // the same operation may succeed by another policy of the key
)

// ClassOfKind returns the class of an error that is a KindError or nil.
func ClassOfKind(err error) (class ErrClass, ok bool) {
	var kind *KindError
	switch {
	case err == nil:
		return ClassNone, true
	case !errors.As(err, &kind):
		return 0, false
	case kind.Kind == ErrUnloaded:
		return ClassLost, true
	case errors.Is(kind.Kind, ErrWrongKeySecret), kind.Kind == ErrWrongSRKSecret:
		return ClassAuth, true
	case kind.Kind == ErrNextPolicy:
		return ClassNextPolicy, true
	}
	return ClassRefused, true
}

// IsOfTransport reports whether an error came from the transport.
func IsOfTransport(err error) bool {
	for _, kind := range []error{
		transport.ErrGone, transport.ErrNoTPM, transport.ErrBusy, transport.ErrPermission, transport.ErrAway, transport.ErrNotSent,
		ErrClosed, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// ClassOfTransport returns the class of an error that is not a TPM's result code.
func ClassOfTransport(err error) ErrClass {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, transport.ErrBusy), errors.Is(err, transport.ErrPermission),
		!errors.Is(err, transport.ErrGone) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return ClassUnavailable
	case errors.Is(err, transport.ErrNotSent):
		return ClassNotSent
	case errors.Is(err, transport.ErrNoTPM) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return ClassUnavailable // not a TPM; one that closed the connection may be restarting
	}
	return ClassUnanswered
}
