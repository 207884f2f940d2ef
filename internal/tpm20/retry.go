package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmconn"
)

// busy returns whether err means that the TPM is busy for a short time. TPM_RC_LOCKOUT does not:
// the lockout can last for hours. TPM 2.0 Library Part 2, section 6.6.3 (warning codes); for
// TPM_RC_NEEDS_TEST, TPM 2.0 Library Part 1, section 12.2.
func busy(err error) tpmconn.Busy {
	refused, _ := err.(*Error)
	if refused == nil {
		return tpmconn.NotBusy
	}
	switch refused.code() {
	case tpm2.TPMRCNeedsTest:
		return tpmconn.NeedsTest
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return tpmconn.Again
	}
	return tpmconn.NotBusy
}

// sendWithRetry sends the command and returns the reply if it is a success.
//
// While the TPM is busy, it sends the same bytes again. The TPM has not executed such a
// command, and a command that fails does not change the nonces of its sessions (TPM 2.0 Library
// Part 1, section 19.6.3), so no secret is tried twice.
func (x *exchange) sendWithRetry() ([]byte, error) {
	reply, resent, err := x.conn.Retry(x.sendOnce, busy, x.conn.sendSelfTest)
	refused, _ := err.(*Error)
	if resent && len(x.uses) > 0 && refused != nil && refused.code() >= tpm2.TPMRCReferenceS0 && refused.code() <= tpm2.TPMRCReferenceS6 {
		// The TPM has executed the command the first time: its busy answer was altered on the
		// way.
		return reply, fmt.Errorf("%s: the TPM has executed the command, although a reply said that it was busy", commandName(x.cc))
	}
	return reply, err
}

// sendSelfTest makes the TPM test itself while a command waits.
func (c *Conn) sendSelfTest() error {
	if _, err := c.TPM.Send(selfTest); err != nil {
		return fmt.Errorf("%s: %w", commandName(tpm2.TPMCCSelfTest), err)
	}
	return nil
}

// selfTest is the marshalled TPM2_SelfTest of what was not tested yet. TPM 2.0 Library Part 3,
// section 10.2 (TPM2_SelfTest).
var selfTest = []byte{0x80, 0x01, 0, 0, 0, headerSize + 1, 0, 0, 0x01, 0x43, 0}

func (x *exchange) sendOnce() ([]byte, error) {
	reply, err := x.conn.TPM.Send(x.msg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", commandName(x.cc), err)
	}
	return reply, x.checkHeader(reply)
}

// checkHeader checks the reply's header. If the TPM refused the command, the error is an *Error.
func (x *exchange) checkHeader(reply []byte) error {
	if len(reply) < headerSize || len(reply) > maxReplySize {
		return malformed(x.cc, "a reply has 10 to %d bytes, this one %d", maxReplySize, len(reply))
	}
	tag := tpm2.TPMST(binary.BigEndian.Uint16(reply))
	size := binary.BigEndian.Uint32(reply[2:])
	code := tpm2.TPMRC(binary.BigEndian.Uint32(reply[6:]))
	switch {
	case size != uint32(len(reply)):
		return malformed(x.cc, "its header says %d bytes, it has %d", size, len(reply))
	case tag == tagTPM12:
		return fmt.Errorf("%s: %w", commandName(x.cc), ErrTPM12)
	case tag != tpm2.TPMSTNoSessions && tag != tpm2.TPMSTSessions:
		return malformed(x.cc, "unknown tag %#04x", tag)
	case code != 0 && (tag != tpm2.TPMSTNoSessions || size != headerSize):
		return malformed(x.cc, "an error reply of %d bytes with tag %#04x", size, tag)
	case code != 0:
		return &Error{Command: x.cc, Code: code}
	// A reply to a command with sessions must have sessions, or anybody could have sent it.
	case uint16(tag) != binary.BigEndian.Uint16(x.msg):
		return malformed(x.cc, "tag %#04x does not fit the command's authorization", tag)
	}
	return nil
}

// isErrorReply reports whether err is an error reply of the TPM.
func isErrorReply(err error) bool {
	var refused *Error
	return errors.As(err, &refused)
}
