package tpm20

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A Conn sends TPM 2.0 commands. It knows which sessions in the TPM are its own.
type Conn struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration

	tpm     transport.TPM
	current *exchange // the command under way, nil between two
	open    map[*Session]struct{}
	stale   []tpm2.TPMHandle // sessions that are not used any more, and may be open

	buf []byte // of commands marshalled by hand
}

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{
		Patience: 10 * time.Second,
		tpm:      tpm,
		open:     map[*Session]struct{}{},
	}
}

// Forget forgets all sessions without a command: the TPM was restarted, or belongs to
// somebody else by now, and no handle means anything any more. Saved ones stay.
func (c *Conn) Forget() {
	for s := range c.open {
		c.ended(s, gone)
	}
	c.stale = nil
}

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// OwnSessions returns the handles of this Conn's open sessions. more says that there may be
// others that were given up and not freed yet.
func (c *Conn) OwnSessions() (open []uint32, more bool) {
	for s := range c.open {
		open = append(open, uint32(s.handle))
	}
	return open, len(c.stale) > 0
}

// Owns reports whether an open session is this Conn's, as far as it knows.
func (c *Conn) Owns(session tpm2.TPMHandle) bool { return c.sessionOf(session) != nil }

// sessionOf is the open session with a handle, nil where there is none.
func (c *Conn) sessionOf(h tpm2.TPMHandle) *Session {
	for s := range c.open {
		if s.handle == h {
			return s
		}
	}
	return nil
}

// vanished notes that the TPM does not have what this handle was, if it was a session.
func (c *Conn) vanished(h tpm2.TPMHandle) {
	if s := c.sessionOf(h); s != nil {
		c.ended(s, gone)
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
