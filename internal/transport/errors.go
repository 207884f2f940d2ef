package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
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
	ErrPermission = errors.New("no permission")
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
	// ErrNoSWTPM: the emulator needs the program swtpm, which is not installed.
	ErrNoSWTPM = errors.New("swtpm is not installed")
)

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

// connectError explains why there is no connection.
func (s *socketLink) connectError(err error) error {
	var noHost *net.DNSError
	var badAddress *net.AddrError
	var known *opError
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return failure(s.doing, s.label, ErrBusy, "no descriptor is left for the connection: close files, or raise the limit (ulimit -n): %w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(s.doing, s.label, ErrPermission, "become a user who may write to this socket: %w", err)
	case errors.As(err, &noHost), errors.As(err, &badAddress):
		return failure(s.doing, s.label, ErrNoTPM, "check the name, which is tcp:HOST:PORT: %w", err)
	case errors.Is(err, ErrAway):
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	case s.proved && hungUp(err):
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	case errors.Is(err, errWaited), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure(s.doing, s.label, ErrBusy, "%s: %w", othersServed, waited(err, s.waits.turn))
	case errors.Is(err, os.ErrDeadlineExceeded): // of a dialer; a full queue does not answer, either
		return failure(s.doing, s.label, ErrBusy, "%s, unless the host does not answer: %w", othersServed, waited(errWaited, s.waits.turn))
	case s.proved:
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "is swtpm running? This wants the data channel of a running swtpm "+
		"(its --server): %w", err)
}

// waited names the end of a wait: the TPM's own limit, or the caller's.
func waited(err error, limit time.Duration) error {
	if errors.Is(err, errWaited) {
		return fmt.Errorf("waited %v", limit)
	}
	return err
}

// othersServed is what keeps everybody else waiting.
const othersServed = "another program is using it, and swtpm serves one at a time; stop it or wait, and try again"

// probeError says what a first command met instead of a TPM.
func (s *socketLink) probeError(rsp []byte, err error) error {
	switch {
	case isControlAnswer(rsp):
		return failure(s.doing, s.label, ErrNoTPM, "this is swtpm's control channel: give its data channel, the one named by swtpm's --server")
	case errors.Is(err, os.ErrDeadlineExceeded) && len(rsp) == 0:
		return failure(s.doing, s.label, ErrBusy, "it takes connections but gave no answer within %v: %s", min(s.waits.probe, s.waits.turn), othersServed)
	}
	if s.proved {
		return failure(s.doing, s.label, ErrGone, "%w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "what listens there does not answer like a TPM (the data channel of swtpm would): %w", err)
}

// isControlAnswer recognises what swtpm's control channel says to a TPM command:
// a bare result code, TPM_BAD_ORDINAL.
func isControlAnswer(rsp []byte) bool {
	return len(rsp) == 4 && binary.BigEndian.Uint32(rsp) == 0x0000000A
}
