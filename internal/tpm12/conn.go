package tpm12

import (
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpmconn"
)

// A Handle names a key that the TPM has loaded. TPM Main Part 2, section 4.4.
type Handle uint32

// SRK is the handle of the storage root key, always loaded in an owned TPM.
const SRK Handle = 0x40000000 // TPM_KH_SRK

// A Conn sends TPM 1.2 commands. It knows which sessions in the TPM are its own.
type Conn struct {
	tpmconn.Conn[*session]

	is12    bool // it has answered as a TPM 1.2 does
	keep    bool
	rolling *session // authorizes by any secret; nil: none

	params []byte // of the command under way
	buf    []byte // the command under way
	hash   hasher
}

// New returns a Conn that speaks over tpm, which must not use a command any more
// after its Send returned. It sends nothing.
func New(tpm transport.TPM) *Conn {
	c := &Conn{hash: newHasher()}
	c.Conn = tpmconn.New(tpm, func(s *session) uint32 { return s.handle }, c.end)
	return c
}

// Lost notes without a command that a key, and with it the sessions opened for it, are
// gone.
func (c *Conn) Lost(key Handle) {
	for s := range c.Open() {
		if s.key == key {
			c.SessionEnded(s, tpmconn.Gone)
		}
	}
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
