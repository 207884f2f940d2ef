package tpm12

import (
	"errors"
	"fmt"

	"maclef/internal/tpmconn"
)

// nonFatal is TPM_NON_FATAL, the bit of refusals after which the same command can
// be sent again. TPM Main Part 2, section 16 (Return codes).
const nonFatal = 0x800

// busy are the refusals that go by themselves. TPM_DEFEND_LOCK_RUNNING is none:
// it can last for hours.
func busy(err error) tpmconn.Busy {
	var refused *Error
	switch {
	case !errors.As(err, &refused):
		return tpmconn.NotBusy
	case refused.Code == NeedsSelfTest:
		return tpmconn.NeedsTest
	case refused.Code == Retry, refused.Code == DoingSelfTest:
		return tpmconn.Again
	}
	return tpmconn.NotBusy
}

// exchange sends cmd and returns what follows the header of the TPM's reply.
//
// While the TPM is busy, the same bytes go out again. It has not looked at them
// (TPM Main Part 3, section 4.2: it "does not execute" the command), so that an
// authorization's nonces still hold, and no secret is tried twice.
func (c *Conn) exchange(cmd *command) ([]byte, error) {
	msg := c.marshal(cmd)
	selfTest := c.sendSelfTest
	if cmd.ordinal == ordContinueSelfTest {
		selfTest = nil
	}
	body, resent, err := c.Retry(func() ([]byte, error) { return c.sendOnce(cmd, msg) }, busy, selfTest)
	if resent && cmd.auth != nil && errors.Is(err, InvalidAuthHandle) {
		// Then the first answer was no such refusal, but was changed on its way.
		return nil, fmt.Errorf("%v: its session has ended with a command that the TPM was said not to have executed", cmd.ordinal)
	}
	return body, err
}

// sendSelfTest has the TPM test itself while a command waits.
func (c *Conn) sendSelfTest() error {
	if _, err := c.TPM.Send(continueSelfTest); err != nil {
		return fmt.Errorf("%v: %w", ordContinueSelfTest, err)
	}
	return nil
}

func (c *Conn) sendOnce(cmd *command, msg []byte) ([]byte, error) {
	reply, err := c.TPM.Send(msg)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd.ordinal, err)
	}
	body, err := cmd.checkHeader(reply, c.is12)
	c.is12 = c.is12 || err == nil
	return body, err
}
