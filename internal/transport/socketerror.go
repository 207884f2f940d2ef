package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

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
	case s.proved:
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "is swtpm running? This wants the data channel of a running swtpm "+
		"(its --server): %w", err)
}

// waited names the end of a wait: the TPM's own limit, or the caller's.
func waited(err error, limit time.Duration) error {
	if errors.Is(err, errWaited) {
		return fmt.Errorf("waited %v (-wait)", limit)
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
