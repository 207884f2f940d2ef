package tpm12

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
