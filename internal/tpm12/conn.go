package tpm12

import (
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpmconn"
)

// A Handle is the handle of a loaded key. TPM Main Part 2, section 4.4 (TPM_HANDLE).
type Handle uint32

// SRK is the handle of the storage root key, which is always loaded in an owned TPM.
const SRK Handle = 0x40000000 // TPM_KH_SRK

// A Conn sends TPM 1.2 commands, and tracks the sessions that it opened.
type Conn struct {
	tpmconn.Conn[*session]

	is12    bool     // the TPM has sent a TPM 1.2 reply
	keep    bool     // see Keep
	rolling *session // the rolling session, nil if there is none

	params []byte // parameters of the current command
	buf    []byte // the marshalled current command
	hash   hasher
}

// New returns a Conn over tpm. tpm must not use the command's bytes after Send has returned. New
// sends nothing.
func New(tpm transport.TPM) *Conn {
	c := &Conn{hash: newHasher()}
	c.Conn = tpmconn.New(tpm, func(s *session) uint32 { return s.handle }, c.end)
	return c
}

// Lost records that a key, and with it the sessions opened for it, are no longer in the TPM. It
// sends nothing.
func (c *Conn) Lost(key Handle) {
	for s := range c.Open() {
		if s.key == key {
			c.SessionEnded(s, tpmconn.Gone)
		}
	}
}

// Startup starts a TPM after a reset, with TPM_ST_CLEAR: all keys and sessions are gone. Until
// then the TPM answers every other command with TPM_INVALID_POSTINIT. TPM Main Part 3, section
// 3.2 (TPM_Startup).
func (c *Conn) Startup() error {
	err := c.runPlain(&command{ordinal: ordStartup, params: []byte{0, startupClear}})
	if err == nil {
		c.Forget()
	}
	return err
}

// startupClear is TPM_ST_CLEAR, TPM Main Part 2, section 4.5 (TPM_STARTUP_TYPE).
const startupClear = 1

// ContinueSelfTest makes the TPM test what it has not tested yet. The TPM may answer before the
// test is complete. TPM Main Part 3, section 4.2 (TPM_ContinueSelfTest).
func (c *Conn) ContinueSelfTest() error {
	return c.runPlain(&command{ordinal: ordContinueSelfTest})
}

// continueSelfTest is the marshalled TPM_ContinueSelfTest, for sendSelfTest.
var continueSelfTest = []byte{0, tagRequest, 0, 0, 0, headerSize, 0, 0, 0, byte(ordContinueSelfTest)}
