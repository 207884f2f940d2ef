package tpm12

import (
	"errors"
	"fmt"

	"maclef/internal/tpmconn"
)

// nonFatal is TPM_NON_FATAL, the bit of result codes after which the same command can be sent
// again. TPM Main Part 2, section 16 (Return codes).
const nonFatal = 0x800

// busy returns whether err means that the TPM is busy for a short time. TPM_DEFEND_LOCK_RUNNING
// does not: the lock can last for hours.
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
// While the TPM is busy, exchange sends the same bytes again. The TPM "does not execute" such a
// command (TPM Main Part 3, section 4.2), so the nonces of the authorization are still valid, and
// no secret is tried twice.
func (c *Conn) exchange(cmd *command) ([]byte, error) {
	msg := c.marshal(cmd)
	selfTest := c.sendSelfTest
	if cmd.ordinal == ordContinueSelfTest {
		selfTest = nil
	}
	body, resent, err := c.Retry(func() ([]byte, error) { return c.sendOnce(cmd, msg) }, busy, selfTest)
	if resent && cmd.auth != nil && errors.Is(err, InvalidAuthHandle) {
		// The TPM has executed the command the first time: its busy answer was altered on the
		// way.
		return nil, fmt.Errorf("%v: the TPM has executed the command, although a reply said that it was busy", cmd.ordinal)
	}
	return body, err
}

// sendSelfTest makes the TPM test itself while a command waits.
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
