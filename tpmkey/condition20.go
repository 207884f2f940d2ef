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

// condition tells what an error of the TPM, or of the way to it, means for what is
// loaded there. TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
func (c *chip20) condition(err error) condition {
	var code *tpm20.Error
	var inWords *refusal
	var lost *parentGone
	switch {
	case err == nil:
		return fine
	case errors.As(err, &lost):
		return sessionGone // all the same: it is made anew
	case errors.As(err, &inWords) && !errors.As(err, &code):
		return refused
	case errors.As(err, &code):
		return conditionOf20(code)
	case errors.Is(err, tpm20.ErrSessionEnded):
		return sessionGone
	}
	var unanswered *tpm20.Unanswered
	if !errors.As(err, &unanswered) && !errors.Is(err, ErrGone) && !errors.Is(err, ErrNoTPM) && !errors.Is(err, transport.ErrAway) &&
		!errors.Is(err, transport.ErrNotSent) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrPermission) && !errors.Is(err, ErrClosed) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return refused // before anything was sent
	}
	return conditionOfWay(err, func() bool { return unanswered != nil && unanswered.Secret })
}

// conditionOfWay tells what an error means that is no answer of the TPM; secret tells
// whether there was a secret in the command.
func conditionOfWay(err error, secret func() bool) condition {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrBusy), errors.Is(err, ErrPermission),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable
	case errors.Is(err, transport.ErrNotSent):
		return notSent
	case errors.Is(err, ErrNoTPM) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return unavailable // what is there is something else; one that hung up may be starting
	case secret():
		return noReplyToSecret
	}
	return noReply
}

// noRoom20 and goneKey20 are result codes with a meaning of their own for what is loaded.
var (
	noRoom20        = []tpm2.TPMRC{tpm2.TPMRCObjectMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCMemory}
	noSessionRoom20 = []tpm2.TPMRC{tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles, tpm2.TPMRCContextGap}
	goneKey20       = []tpm2.TPMRC{
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

func conditionOf20(err *tpm20.Error) condition {
	switch {
	case isOneOf(err, noRoom20):
		return noRoomForKey
	case isOneOf(err, noSessionRoom20):
		return noRoomForSession
	case err.SessionGone || isOneOf(err, goneSession20), isOneOf(err, noHandle20) && isAboutSession(err):
		return sessionGone
	case (isOneOf(err, goneKey20) || isOneOf(err, noHandle20)) && isObject(err.Gone):
		return keyGone
	case errors.Is(err, tpm2.TPMRCInitialize):
		return notStarted
	case err.Rolled && (errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth)):
		return sessionStale
	case err.Unproven && errors.Is(err, tpm2.TPMRCBadAuth): // which is not counted
		return sessionStale
	}
	return refused
}

func isAboutSession(err error) bool {
	var which tpm2.TPMFmt1Error
	if !errors.As(err, &which) {
		return false
	}
	is, _ := which.Session()
	return is
}
