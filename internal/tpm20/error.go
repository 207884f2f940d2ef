package tpm20

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmconn"
)

// ErrTPM12 means that the reply came from a TPM 1.2.
var ErrTPM12 = errors.New("this is a TPM 1.2")

// An Error means that the TPM refused a command: it did not execute it, and the nonces of the
// command's sessions did not change. After any other error (lost connection, malformed reply) the
// command may have been executed.
type Error struct {
	Command tpm2.TPMCC
	Code    tpm2.TPMRC // as it was sent
	// Gone is the handle that the TPM does not know, 0 if the error is not about a handle.
	// SessionGone means that Gone is a policy session's, in a command on that session.
	Gone        tpm2.TPMHandle
	SessionGone bool
	// Failed means that the TPM is in failure mode and refuses all commands (TPM 2.0 Library Part
	// 1, section 12.3). It is not set for TPM2_RSA_Decrypt, because libtpms answers
	// TPM_RC_FAILURE if the padding is wrong; see InFailureMode.
	Failed bool
}

// Result returns the command's name, the result code and the code's name.
func (e *Error) Result() (command string, code uint32, name string) {
	return commandName(e.Command), uint32(e.Code), e.Name()
}

// Error returns a text such as "TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1)".
func (e *Error) Error() string {
	name := e.Name()
	if name == "" {
		name = "unknown TPM error"
	}
	text := fmt.Sprintf("%s: %s (%#x%s)", commandName(e.Command), name, uint32(e.Code), e.About())
	if e.Failed {
		text += ": the TPM is in failure mode, which only a restart of the machine, or of the software TPM, may end"
	}
	return text
}

// layerMask is the part of a response code that software between program and TPM sets in its own
// codes, as the kernel's resource manager does (TSS 2.0 Overview, TSS2_RC).
const layerMask = 0xff0000

// About returns what the code is about and who sent it, such as ", parameter 1".
func (e *Error) About() string {
	text := ""
	var about tpm2.TPMFmt1Error
	if e.code().As(&about) {
		for _, s := range []struct {
			what string
			of   func() (bool, int)
		}{{"handle", about.Handle}, {"parameter", about.Parameter}, {"session", about.Session}} {
			if is, i := s.of(); is && i > 0 {
				text = fmt.Sprintf(", %s %d", s.what, i)
			}
		}
	}
	if e.Code&layerMask != 0 {
		text += ", from the resource manager"
	}
	return text
}

// code returns the code without the layer that sent it.
func (e *Error) code() tpm2.TPMRC { return e.Code &^ layerMask }

// Name returns the code's name in the specification, or "" if it has none. TPM 2.0 Library Part
// 2, section 6.6 (TPM_RC).
func (e *Error) Name() string {
	name, _, _ := strings.Cut(e.code().Error(), " ")
	if name = strings.TrimSuffix(name, ":"); strings.HasPrefix(name, "TPM_RC_") {
		return name
	}
	return ""
}

// Unwrap returns the code, so errors.Is finds for example tpm2.TPMRCAuthFail, whatever handle,
// parameter or session it is about.
func (e *Error) Unwrap() error { return e.code() }

// Opens reports whether the command opens a session.
func (e *Error) Opens() bool { return e.Command == tpm2.TPMCCStartAuthSession }

// An Unanswered is the error of a command whose reply is missing or cannot be trusted.
type Unanswered = tpmconn.Unanswered

// malformed returns the error for a reply that no TPM 2.0 sends.
func malformed(cc tpm2.TPMCC, format string, args ...any) error {
	return fmt.Errorf("%s: malformed reply: %w", commandName(cc), fmt.Errorf(format, args...))
}
