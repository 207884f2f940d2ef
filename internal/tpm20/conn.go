package tpm20

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpmconn"
)

// A Conn sends TPM 2.0 commands, and tracks the sessions that it opened.
type Conn struct {
	tpmconn.Conn[*Session]

	current *exchange // the command that is being run, nil if none
	buf     []byte    // for commands marshalled by hand
}

// New returns a Conn over tpm. tpm must not use the command's bytes after Send has returned. New
// sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{Conn: tpmconn.New(tpm, func(s *Session) uint32 { return uint32(s.handle) }, (*Session).end)}
}

// handleGone records that the TPM has no session with this handle.
func (c *Conn) handleGone(h tpm2.TPMHandle) {
	if s, ok := c.SessionOf(uint32(h)); ok {
		c.SessionEnded(s, tpmconn.Gone)
	}
}

// Startup starts a TPM after a reset, with TPM_SU_CLEAR: all objects and sessions are gone. Until
// then the TPM answers every other command with TPM_RC_INITIALIZE. TPM 2.0 Library Part 3,
// section 9.3 (TPM2_Startup).
func (c *Conn) Startup() error {
	_, err := Run(c, tpm2.Startup{StartupType: tpm2.TPMSUClear})
	if err == nil {
		c.Forget()
	}
	return err
}

// Shutdown prepares the TPM for power loss. Without it, the TPM may count the power loss as a
// wrong secret. TPM 2.0 Library Part 3, section 9.4 (TPM2_Shutdown).
func (c *Conn) Shutdown() error {
	_, err := Run(c, tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear})
	return err
}

// InFailureMode reports whether the TPM is in failure mode, in which it refuses all commands. TPM
// 2.0 Library Part 1, section 12.3.
func (c *Conn) InFailureMode() (bool, error) {
	x := &exchange{conn: c, cc: tpm2.TPMCCReadClock, msg: readClock}
	_, err := x.sendOnce()
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, tpm2.TPMRCFailure):
		return true, nil
	case isErrorReply(err):
		return false, nil
	}
	return false, c.unanswered(false, err)
}

// readClock is the marshalled TPM2_ReadClock, which needs no authorization. TPM 2.0 Library Part
// 3, section 29.1 (TPM2_ReadClock).
var readClock = []byte{0x80, 0x01, 0, 0, 0, headerSize, 0, 0, 0x01, 0x81}

// GetRandom returns 1 to n random bytes; the TPM decides how many. TPM 2.0 Library Part 3,
// section 16.1 (TPM2_GetRandom).
func (c *Conn) GetRandom(n int) ([]byte, error) {
	const most = 64 // the longest digest of any TPM
	n = min(n, most)
	rsp, err := runChecked(c, tpm2.GetRandom{BytesRequested: uint16(n)}, func(rsp *tpm2.GetRandomResponse) error {
		if got := len(rsp.RandomBytes.Buffer); got == 0 || got > n {
			return fmt.Errorf("%d random bytes, expected up to %d", got, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rsp.RandomBytes.Buffer, nil
}

// ResetLockout resets the count of wrong secrets. auth authorizes the lockout hierarchy. TPM 2.0
// Library Part 3, section 25.2 (TPM2_DictionaryAttackLockReset).
func (c *Conn) ResetLockout(auth tpm2.Session) error {
	_, err := c.runAuthorized(dictionaryAttackLockReset, Hierarchy(tpm2.TPMRHLockout), auth, nil, nil)
	return err
}

// dictionaryAttackLockReset is missing in go-tpm. TPM 2.0 Library Part 2, section 6.5.2 (TPM_CC).
const dictionaryAttackLockReset tpm2.TPMCC = 0x139
