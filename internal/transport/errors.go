package transport

import (
	"errors"
	"fmt"
	"strings"

	"maclef/internal/sysfs"
)

// Errors that callers test for with errors.Is. The error that wraps one names the TPM, the
// reason, and what to do.
var (
	// ErrNoTPM: nothing has this name, or it is not a TPM.
	ErrNoTPM = errors.New("no TPM")
	// ErrNoDevice: no TPM was named, and this machine has no TPM device. It is an ErrNoTPM.
	ErrNoDevice = fmt.Errorf("%w", ErrNoTPM)
	// ErrUnknownName: the name of a TPM has none of the forms.
	ErrUnknownName = errors.New("unknown name")
	// ErrPermission: the TPM exists, but this user may not open it.
	ErrPermission = sysfs.ErrPermission
	// ErrBusy: another program keeps using the TPM.
	ErrBusy = errors.New("TPM is busy")
	// ErrGone: the connection was lost or got out of step. What was loaded may be lost. The
	// TPM may have carried out the last command or not; with ErrNotSent it has not.
	ErrGone = errors.New("connection to the TPM lost")
	// ErrAway: the TPM was found before, and is gone now.
	ErrAway = errors.New("it is gone")
	// ErrNotSent: the command did not reach the TPM.
	ErrNotSent = errors.New("the command was not sent")
	// ErrNoSWTPM: the emulator needs the program swtpm, which is not installed. It is an
	// ErrNoTPM.
	ErrNoSWTPM error = noSWTPM{}
)

type noSWTPM struct{}

func (noSWTPM) Error() string { return "swtpm is not installed" }
func (noSWTPM) Unwrap() error { return ErrNoTPM }

// failure makes an error: doing something to the TPM name failed with this kind, for this
// reason.
func failure(doing, name string, kind error, format string, args ...any) error {
	return &opError{doing: strings.TrimSpace(doing + " " + name), kind: kind, why: fmt.Errorf(format, args...)}
}

// An opError has one of the kinds above and wraps its cause.
type opError struct {
	doing string
	kind  error
	why   error
}

func (e *opError) Error() string {
	return e.doing + ": " + e.kind.Error() + ": " + e.why.Error()
}

func (e *opError) Unwrap() []error { return []error{e.kind, e.why} }

// A notSent error occurred before the command was sent.
type notSent struct{ error }

func (e *notSent) Unwrap() []error { return []error{e.error, ErrNotSent} }
