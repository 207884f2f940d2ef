package tpm20

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmconn"
)

// ErrTPM12 is a reply that only a TPM 1.2 gives.
var ErrTPM12 = errors.New("this is a TPM 1.2")

// An Error is a command that the TPM refused: it did nothing, and the nonces of
// its sessions are as they were. What is no Error (a lost connection, a malformed
// reply) may have been done.
type Error struct {
	Command tpm2.TPMCC
	Code    tpm2.TPMRC // as it was sent
	// Gone is the handle that the TPM does not know, 0 where it complains of none.
	// SessionGone says that it is that of a policy's session, in a command on it.
	Gone        tpm2.TPMHandle
	SessionGone bool
	// Failed says that the TPM refuses everything: it is in failure mode (Part 1,
	// section 12.3). It is not found out for TPM2_RSA_Decrypt, to which libtpms
	// answers TPM_RC_FAILURE when the padding is wrong; see InFailureMode.
	Failed bool
}

// Refusal returns what was refused: the command, the response code and its name.
func (e *Error) Refusal() (command string, code uint32, name string) {
	return commandName(e.Command), uint32(e.Code), e.Name()
}

// Error is "TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1)".
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

// layerMask is where software between a program and the TPM says that a code is
// its own: the kernel's resource manager does (TSS 2.0 Overview, TSS2_RC).
const layerMask = 0xff0000

// About says what the code is about, and whose it is, such as ", parameter 1".
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

// code is the TPM's code, without who sent it.
func (e *Error) code() tpm2.TPMRC { return e.Code &^ layerMask }

// Name is the code's name in the specification, empty where it has none. Part 2,
// section 6.6 (TPM_RC).
func (e *Error) Name() string {
	name, _, _ := strings.Cut(e.code().Error(), " ")
	if name = strings.TrimSuffix(name, ":"); strings.HasPrefix(name, "TPM_RC_") {
		return name
	}
	return ""
}

// Unwrap lets errors.Is find the code, such as tpm2.TPMRCAuthFail, whatever
// handle, parameter or session it is about.
func (e *Error) Unwrap() error { return e.code() }

// Opens reports whether the command was to open a session, and nothing else.
func (e *Error) Opens() bool { return e.Command == tpm2.TPMCCStartAuthSession }

// An Unanswered command has no answer that can be trusted.
type Unanswered = tpmconn.Unanswered

// malformed says that the reply to a command is not one a TPM 2.0 gives.
func malformed(cc tpm2.TPMCC, format string, args ...any) error {
	return fmt.Errorf("%s: malformed reply: %w", commandName(cc), fmt.Errorf(format, args...))
}
