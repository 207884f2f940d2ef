package tpm12

import (
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// A Handle names a key that the TPM has loaded. TPM Main Part 2, section 4.4.
type Handle uint32

// SRK is the handle of the storage root key, always loaded in an owned TPM.
const SRK Handle = 0x40000000 // TPM_KH_SRK

// A Conn sends TPM 1.2 commands. It knows which sessions in the TPM are its own.
type Conn struct {
	// Patience is how long a command is sent again while the TPM says that it is
	// busy or testing itself; New sets 10 seconds. At 0 that is an error at once.
	Patience time.Duration

	tpm     transport.TPM
	is12    bool // it has answered as a TPM 1.2 does
	keep    bool
	rolling *session // authorizes by any secret; nil: none
	open    map[*session]struct{}
	stale   []uint32 // sessions that are not used any more, and may be open

	params []byte // of the command under way
	buf    []byte // the command under way
	hash   hasher
}

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	return &Conn{
		Patience: 10 * time.Second,
		tpm:      tpm,
		open:     map[*session]struct{}{},
		hash:     newHasher(),
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

// Lost notes without a command that a key, and with it the sessions opened for it, are
// gone.
func (c *Conn) Lost(key Handle) {
	for s := range c.open {
		if s.key == key {
			c.ended(s, gone)
		}
	}
}

// Holds reports whether this Conn has, or may have, sessions open in the TPM.
func (c *Conn) Holds() bool { return len(c.open) > 0 || len(c.stale) > 0 }

// OwnSessions returns the handles of this Conn's open sessions. more says that there may be
// others that were given up and not freed yet.
func (c *Conn) OwnSessions() (open []uint32, more bool) {
	for s := range c.open {
		open = append(open, s.handle)
	}
	return open, len(c.stale) > 0
}

// Owns reports whether an open session is this Conn's, as far as it knows.
func (c *Conn) Owns(session uint32) bool {
	for s := range c.open {
		if s.handle == session {
			return true
		}
	}
	return false
}

// Startup starts a TPM that was reset and not started, which says
// TPM_INVALID_POSTINIT to everything else, as one does that nothing was saved in
// (TPM_ST_CLEAR): all keys and sessions are gone. TPM Main Part 3, section 3.2
// (TPM_Startup).
func (c *Conn) Startup() error {
	err := c.runPlain(&command{ordinal: ordStartup, params: []byte{0, startupClear}})
	if err == nil {
		c.Forget()
	}
	return err
}

// startupClear is TPM_ST_CLEAR, TPM Main Part 2, section 4.5 (TPM_STARTUP_TYPE).
const startupClear = 1

// ContinueSelfTest has the TPM test what it has not tested yet; it may do so
// after it has answered. TPM Main Part 3, section 4.2 (TPM_ContinueSelfTest).
func (c *Conn) ContinueSelfTest() error {
	return c.runPlain(&command{ordinal: ordContinueSelfTest})
}

// continueSelfTest is that command, for use while another one waits.
var continueSelfTest = []byte{0, tagRequest, 0, 0, 0, headerSize, 0, 0, 0, byte(ordContinueSelfTest)}
