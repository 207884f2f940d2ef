package tpm20

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpmconn"
)

// A Conn sends TPM 2.0 commands. It knows which sessions in the TPM are its own.
type Conn struct {
	tpmconn.Conn[*Session]

	current *exchange // the command under way, nil between two
	buf     []byte    // of commands marshalled by hand
}

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{Conn: tpmconn.New(tpm, func(s *Session) uint32 { return uint32(s.handle) }, (*Session).end)}
}

// vanished notes that the TPM does not have what this handle was, if it was a session.
func (c *Conn) vanished(h tpm2.TPMHandle) {
	if s, ok := c.SessionOf(uint32(h)); ok {
		c.SessionEnded(s, tpmconn.Gone)
	}
}

// Startup starts a TPM that was reset and not started, which says
// TPM_RC_INITIALIZE to everything else, as one does that nothing was saved in: all
// objects and sessions are gone. Part 3, section 9.3 (TPM2_Startup).
func (c *Conn) Startup() error {
	_, err := Run(c, tpm2.Startup{StartupType: tpm2.TPMSUClear})
	if err == nil {
		c.Forget()
	}
	return err
}

// Shutdown prepares the TPM for the loss of power, which else can count as a wrong
// secret. Part 3, section 9.4 (TPM2_Shutdown).
func (c *Conn) Shutdown() error {
	_, err := Run(c, tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear})
	return err
}

// InFailureMode reports whether the TPM refuses everything. Part 1, section 12.3.
func (c *Conn) InFailureMode() (bool, error) {
	x := &exchange{conn: c, cc: tpm2.TPMCCReadClock, msg: readClock}
	_, err := x.sendOnce()
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, tpm2.TPMRCFailure):
		return true, nil
	case isRefusal(err):
		return false, nil
	}
	return false, c.unanswered(false, err)
}

// readClock is TPM2_ReadClock, which needs nothing. Part 3, section 29.1.
var readClock = []byte{0x80, 0x01, 0, 0, 0, headerSize, 0, 0, 0x01, 0x81}

// GetRandom returns 1 to n random bytes, as many as the TPM gives at once. Part 3,
// section 16.1 (TPM2_GetRandom).
func (c *Conn) GetRandom(n int) ([]byte, error) {
	const most = 64 // no TPM has a longer digest
	n = min(n, most)
	rsp, err := runChecked(c, tpm2.GetRandom{BytesRequested: uint16(n)}, func(rsp *tpm2.GetRandomResponse) error {
		if got := len(rsp.RandomBytes.Buffer); got == 0 || got > n {
			return fmt.Errorf("%d random bytes where %d were asked for", got, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rsp.RandomBytes.Buffer, nil
}

// ResetLockout forgets all wrong secrets that were counted; auth proves the lockout
// hierarchy's. Part 3, section 25.2 (TPM2_DictionaryAttackLockReset).
func (c *Conn) ResetLockout(auth tpm2.Session) error {
	_, err := c.transform(dictionaryAttackLockReset, Hierarchy(tpm2.TPMRHLockout), auth, nil, nil)
	return err
}

// dictionaryAttackLockReset is a command that go-tpm has not. Part 2, section 6.5.2.
const dictionaryAttackLockReset tpm2.TPMCC = 0x139
