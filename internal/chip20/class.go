package chip20

import (
	"errors"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// ClassOf implements chip.Chip. TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
func (c *Chip) ClassOf(err error) chip.ErrClass {
	var code *tpm20.Error
	var lost *parentGone
	var unanswered *tpm20.Unanswered
	if errors.As(err, &lost) { // the parent can be created again
		return chip.ClassLost
	}
	if class, ok := chip.ClassOfKind(err); ok {
		return class
	}
	switch {
	case errors.As(err, &code):
		return classOfCode(code)
	case errors.Is(err, tpm20.ErrSessionEnded):
		return chip.ClassLost
	case errors.As(err, &unanswered), chip.IsOfTransport(err):
		return chip.ClassOfTransport(err)
	}
	return chip.ClassRefused // nothing was sent
}

// Response codes of the classes. TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
var (
	noSlot       = []tpm2.TPMRC{tpm2.TPMRCObjectMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCMemory}
	tooManySaved = []tpm2.TPMRC{tpm2.TPMRCSessionHandles, tpm2.TPMRCContextGap}
	goneKey      = []tpm2.TPMRC{
		tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceH1, tpm2.TPMRCReferenceH2,
	}
	noHandle    = []tpm2.TPMRC{tpm2.TPMRCHandle, tpm2.TPMRCValue} // for a handle of the command
	goneSession = []tpm2.TPMRC{
		tpm2.TPMRCReferenceS0, tpm2.TPMRCReferenceS1, tpm2.TPMRCReferenceS2,
	}
)

// isObject reports whether a handle can be that of a key. The TPM does not complain about others,
// such as a hierarchy's.
func isObject(h tpm2.TPMHandle) bool { return h>>24 == 0x80 || h>>24 == 0x81 }

func classOfCode(err *tpm20.Error) chip.ErrClass {
	switch {
	case isOneOf(err, noSlot):
		return chip.ClassNoKeySlot
	case errors.Is(err, tpm2.TPMRCSessionMemory):
		return chip.ClassNoSessionSlot
	case isOneOf(err, tooManySaved):
		return chip.ClassTooManySaved
	case err.SessionGone || isOneOf(err, goneSession), isOneOf(err, noHandle) && isAboutSession(err):
		return chip.ClassLost
	case (isOneOf(err, goneKey) || isOneOf(err, noHandle)) && isObject(err.Gone):
		return chip.ClassLost
	case errors.Is(err, tpm2.TPMRCInitialize):
		return chip.ClassNotStarted
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return chip.ClassAuth
	}
	return chip.ClassRefused
}

func isAboutSession(err error) bool {
	var which tpm2.TPMFmt1Error
	if !errors.As(err, &which) {
		return false
	}
	is, _ := which.Session()
	return is
}
