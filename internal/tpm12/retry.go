package tpm12

import (
	"errors"
	"fmt"
	"time"
)

// Pauses before a command is sent again.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// nonFatal is TPM_NON_FATAL, the bit of refusals after which the same command can
// be sent again. TPM Main Part 2, section 16 (Return codes).
const nonFatal = 0x800

// busy are the refusals that go by themselves. TPM_DEFEND_LOCK_RUNNING is none:
// it can last for hours.
func busy(code ResultCode) bool {
	return code == Retry || code == DoingSelfTest || code == NeedsSelfTest
}

// exchange sends cmd and returns what follows the header of the TPM's reply.
//
// While the TPM is busy, the same bytes go out again. It has not looked at them
// (TPM Main Part 3, section 4.2: it "does not execute" the command), so that an
// authorization's nonces still hold, and no secret is tried twice.
func (c *Conn) exchange(cmd *command) ([]byte, error) {
	msg := c.marshal(cmd)
	body, err := c.sendOnce(cmd, msg)
	var deadline time.Time
	resent := false
	for pause, tested := firstPause, false; ; pause = min(2*pause, longestPause) {
		var refused *Error
		if resent && cmd.auth != nil && errors.Is(err, InvalidAuthHandle) {
			// Then the first answer was no such refusal, but was changed on its way.
			return nil, fmt.Errorf("%v: its session has ended with a command that the TPM was said not to have executed", cmd.ordinal)
		}
		if !errors.As(err, &refused) || !busy(refused.Code) {
			return body, err
		}
		resent = true
		if deadline.IsZero() {
			deadline = time.Now().Add(c.Patience)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, err
		}
		if refused.Code == NeedsSelfTest && !tested && cmd.ordinal != ordContinueSelfTest {
			tested = true
			if _, err := c.tpm.Send(continueSelfTest); err != nil {
				return nil, fmt.Errorf("%v: %w", ordContinueSelfTest, err)
			}
		}
		time.Sleep(min(pause, left))
		body, err = c.sendOnce(cmd, msg)
	}
}

func (c *Conn) sendOnce(cmd *command, msg []byte) ([]byte, error) {
	reply, err := c.tpm.Send(msg)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd.ordinal, err)
	}
	body, err := cmd.checkHeader(reply, c.is12)
	c.is12 = c.is12 || err == nil
	return body, err
}
