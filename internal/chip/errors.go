package chip

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"syscall"

	"maclef/internal/transport"
)

// What a caller may want to decide on. Package tpmkey documents these.
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
	ErrNoKey            = errors.New("no key there")
	ErrWrongGeneration  = errors.New("not a key for this generation of TPM")
	ErrUnloaded         = WithText("the TPM has lost the key", transport.ErrGone)
	ErrNotSupported     = errors.New("not supported")
	ErrPolicy           = errors.New("the policy is not met")
	ErrClosed           = errors.New("already closed")
)

// Errors between the chips and the key manager.
var (
	// ErrNoOwnSession: the key's secret is needed for each command.
	ErrNoOwnSession = errors.New("the secret is needed for each command")
	// ErrOtherContext: a context from disk is not of what its name says. Nothing else was
	// sent.
	ErrOtherContext = fmt.Errorf("the context on disk is of something else: %w", transport.ErrNotSent)
	// ErrDecryption: a ciphertext is not one of this key. It does not say why, so that
	// nobody learns about the padding.
	ErrDecryption = WithText("decryption error: this is no ciphertext for this key", rsa.ErrDecryption)
	// ErrBadSignature: what the TPM returned is no signature of the key.
	ErrBadSignature = errors.New("the TPM returned a signature that is not one of this key: the chip or its connection is faulty")
)

// Errors of those kinds that say more exactly what is wrong. Package advice tells them apart.
var (
	// ErrNoSRK is an ErrNotOwned.
	ErrNoSRK = OfKind(ErrNotOwned, "so it has no storage root key", nil)
	// ErrOwned: nobody can take ownership.
	ErrOwned = errors.New("the TPM has an owner already, and its keys work on")
	// ErrNoSealing is an ErrNotSupported.
	ErrNoSealing = fmt.Errorf("%w: this is a TPM 1.2, and data is sealed for a TPM 2.0 only", ErrNotSupported)
	// ErrKeyLimits is an ErrNotSupported of a key, where the TPM could do it with another.
	ErrKeyLimits = WithText(ErrNotSupported.Error(), ErrNotSupported)
	// ErrNotWrappable is an ErrNotSupported of a software key that no TPM 1.2, or no TPM
	// 2.0, takes.
	ErrNotWrappable = WithText(ErrNotSupported.Error(), ErrNotSupported)
)

// A KindError is an error of a kind, for errors.Is, with details.
type KindError struct {
	Kind   error
	Detail string
	Cause  error // may be nil
}

// OfKind returns a KindError; cause may be nil.
func OfKind(kind error, detail string, cause error) error { return &KindError{kind, detail, cause} }

func (e *KindError) Error() string   { return fmt.Sprintf("%v (%s)", e.Kind, e.Detail) }
func (e *KindError) Unwrap() []error { return []error{e.Kind, e.Cause} } // errors.Is skips a nil cause

// WithText returns an error with a text of its own that wraps another one.
func WithText(text string, kind error) error { return &textError{text, kind} }

type textError struct {
	text string
	kind error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.kind }

// SecretTried reports whether the command that failed with err may have proved a secret.
func SecretTried(err error) bool {
	var unanswered interface{ SecretTried() bool }
	return !errors.As(err, &unanswered) || unanswered.SecretTried()
}

// An ErrClass is what an error means for what is loaded in a TPM, and so what may be done
// about it.
type ErrClass int

// The classes.
const (
	ClassNone         ErrClass = iota
	ClassRefused               // for any other reason; nothing was changed
	ClassAuth                  // a secret was refused
	ClassKeyRoom               // all places for keys are taken
	ClassSessionRoom           // all places for sessions are taken
	ClassSavedRoom             // the TPM knows too many saved sessions, or one that is too old
	ClassLost                  // a key or session is not there: it was flushed, or its handle is wrong
	ClassNotStarted            // somebody must start the TPM up
	ClassNotSent               // the command did not reach it
	ClassUnanswered            // nobody knows whether the command was carried out
	ClassUnavailable           // the TPM could not be had, or is closed
	ClassSecretNeeded          // a secret must be asked for
	ClassBadResult             // the result is not one of this key
)

// ClassOfKind returns the class of an error that has its kind already.
func ClassOfKind(err error) (class ErrClass, ok bool) {
	var kind *KindError
	switch {
	case err == nil:
		return ClassNone, true
	case !errors.As(err, &kind):
		return 0, false
	case kind.Kind == ErrUnloaded:
		return ClassLost, true
	case kind.Kind == ErrWrongKeySecret, kind.Kind == ErrWrongSRKSecret:
		return ClassAuth, true
	}
	return ClassRefused, true
}

// IsOfTransport reports whether an error came from the way to the TPM.
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

// ClassOfTransport returns the class of an error that is no answer of the TPM.
func ClassOfTransport(err error) ErrClass {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, transport.ErrBusy), errors.Is(err, transport.ErrPermission),
		!errors.Is(err, transport.ErrGone) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return ClassUnavailable
	case errors.Is(err, transport.ErrNotSent):
		return ClassNotSent
	case errors.Is(err, transport.ErrNoTPM) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return ClassUnavailable // what is there is something else; one that hung up may be starting
	}
	return ClassUnanswered
}
