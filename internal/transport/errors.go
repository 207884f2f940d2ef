package transport

import (
	"errors"
	"fmt"
	"strings"

	"maclef/internal/sysfs"
)

// Errors a caller decides on, found with errors.Is. The error that wraps one
// says which TPM was meant, why, and what to do next.
var (
	// ErrNoTPM: there is no TPM under this name, or what is there is none.
	ErrNoTPM = errors.New("no TPM")
	// ErrNoDevice: no TPM was named, and this machine has no device of one. It is
	// an ErrNoTPM.
	ErrNoDevice = fmt.Errorf("%w", ErrNoTPM)
	// ErrPermission: the TPM is there, this user may not open it.
	ErrPermission = sysfs.ErrPermission
	// ErrBusy: another program is using the TPM and does not let go of it.
	ErrBusy = errors.New("TPM is busy")
	// ErrGone: the connection was lost or fell out of step. What was loaded may be
	// lost, and the last command may or may not have been carried out; with
	// ErrNotSent it was not.
	ErrGone = errors.New("connection to the TPM lost")
	// ErrAway: the TPM was there, and nothing of it is now.
	ErrAway = errors.New("it is away")
	// ErrNotSent: the command did not reach the TPM.
	ErrNotSent = errors.New("the command was not sent")
	// ErrNoSWTPM: the emulator needs the program swtpm, which is not installed. It is an
	// ErrNoTPM, too.
	ErrNoSWTPM error = noSWTPM{}
)

type noSWTPM struct{}

func (noSWTPM) Error() string { return "swtpm is not installed" }
func (noSWTPM) Unwrap() error { return ErrNoTPM }

// failure says that what was done to the TPM name failed, of which kind, why,
// and what to do about it.
func failure(doing, name string, kind error, format string, args ...any) error {
	return &opError{doing: strings.TrimSpace(doing + " " + name), kind: kind, why: fmt.Errorf(format, args...)}
}

// opError has one sentinel and keeps the cause's chain.
type opError struct {
	doing string
	kind  error
	why   error
}

func (e *opError) Error() string {
	return e.doing + ": " + e.kind.Error() + ": " + e.why.Error()
}

func (e *opError) Unwrap() []error { return []error{e.kind, e.why} }

// A notSent error is one met before a command was out.
type notSent struct{ error }

func (e *notSent) Unwrap() []error { return []error{e.error, ErrNotSent} }
