package tpmkey

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/transport"
)

// classOf tells what an error of the TPM, or of the way to it, means for what is
// loaded there. TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
func (c *chip20) classOf(err error) errClass {
	var code *tpm20.Error
	var lost *parentGone
	var unanswered *tpm20.Unanswered
	if errors.As(err, &lost) { // it is made anew
		return classLost
	}
	if class, ok := classOfRefusal(err); ok {
		return class
	}
	switch {
	case errors.As(err, &code):
		return classOf20(code)
	case errors.Is(err, tpm20.ErrSessionEnded):
		return classLost
	case errors.As(err, &unanswered), isOfWay(err):
		return classOfWay(err)
	}
	return classRefused // before anything was sent
}

func (c *chip20) triedSecret(err error) bool {
	var unanswered *tpm20.Unanswered
	return !errors.As(err, &unanswered) || unanswered.Secret
}

// classOfRefusal is the class of an error that has its kind already.
func classOfRefusal(err error) (class errClass, ok bool) {
	var inWords *refusal
	switch {
	case err == nil:
		return classNone, true
	case !errors.As(err, &inWords):
		return 0, false
	case inWords.kind == ErrUnloaded:
		return classLost, true
	case inWords.kind == ErrWrongKeySecret, inWords.kind == ErrWrongSRKSecret:
		return classAuth, true
	}
	return classRefused, true
}

// isOfWay reports whether an error is one of the way to the TPM.
func isOfWay(err error) bool {
	for _, kind := range []error{
		ErrGone, ErrNoTPM, ErrBusy, ErrPermission, ErrClosed, transport.ErrAway, transport.ErrNotSent, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// classOfWay tells what an error means that is no answer of the TPM.
func classOfWay(err error) errClass {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrBusy), errors.Is(err, ErrPermission),
		!errors.Is(err, ErrGone) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return classUnavailable
	case errors.Is(err, transport.ErrNotSent):
		return classNotSent
	case errors.Is(err, ErrNoTPM) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return classUnavailable // what is there is something else; one that hung up may be starting
	}
	return classUnanswered
}

// noRoom20 and goneKey20 are result codes with a meaning of their own for what is loaded.
var (
	noRoom20      = []tpm2.TPMRC{tpm2.TPMRCObjectMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCMemory}
	noSavedRoom20 = []tpm2.TPMRC{tpm2.TPMRCSessionHandles, tpm2.TPMRCContextGap}
	goneKey20     = []tpm2.TPMRC{
		tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceH1, tpm2.TPMRCReferenceH2,
	}
	noHandle20    = []tpm2.TPMRC{tpm2.TPMRCHandle, tpm2.TPMRCValue} // of one of the command's
	goneSession20 = []tpm2.TPMRC{
		tpm2.TPMRCReferenceS0, tpm2.TPMRCReferenceS1, tpm2.TPMRCReferenceS2,
	}
)

// isObject reports whether a handle can be that of a key. A complaint about another, such
// as a hierarchy's, makes no sense.
func isObject(h tpm2.TPMHandle) bool { return h>>24 == 0x80 || h>>24 == 0x81 }

func classOf20(err *tpm20.Error) errClass {
	switch {
	case isOneOf(err, noRoom20):
		return classKeyRoom
	case errors.Is(err, tpm2.TPMRCSessionMemory):
		return classSessionRoom
	case isOneOf(err, noSavedRoom20):
		return classSavedRoom
	case err.SessionGone || isOneOf(err, goneSession20), isOneOf(err, noHandle20) && isAboutSession(err):
		return classLost
	case (isOneOf(err, goneKey20) || isOneOf(err, noHandle20)) && isObject(err.Gone):
		return classLost
	case errors.Is(err, tpm2.TPMRCInitialize):
		return classNotStarted
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return classAuth
	}
	return classRefused
}

func isAboutSession(err error) bool {
	var which tpm2.TPMFmt1Error
	if !errors.As(err, &which) {
		return false
	}
	is, _ := which.Session()
	return is
}
