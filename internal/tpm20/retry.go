package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Pauses before a command is sent again.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// busy are the refusals that go by themselves. TPM_RC_LOCKOUT is none: it can last
// for hours. Part 2, section 6.6.3 (warning codes), and for needs-test Part 1,
// section 12.2.
func busy(code tpm2.TPMRC) bool {
	switch code {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNeedsTest, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

// answer sends the command and returns the reply of a success.
//
// While the TPM is busy, the same bytes go out again. It has not carried them out,
// and a command that fails leaves the nonces of its sessions as they are (Part 1,
// section 19.6.3), so that no secret is tried twice.
func (x *exchange) answer() ([]byte, error) {
	reply, err := x.sendOnce()
	var deadline time.Time
	for pause, tested := firstPause, false; ; pause = min(2*pause, longestPause) {
		refused, _ := err.(*Error)
		if refused == nil || !busy(refused.code()) {
			return reply, x.believable(err)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(x.conn.Patience)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, err
		}
		if refused.code() == tpm2.TPMRCNeedsTest && !tested {
			tested = true
			if _, err := x.conn.tpm.Send(selfTest); err != nil {
				return nil, fmt.Errorf("%s: %w", commandName(tpm2.TPMCCSelfTest), err)
			}
		}
		time.Sleep(min(pause, left))
		x.resent = true
		reply, err = x.sendOnce()
	}
}

// believable replaces a refusal that cannot be, unless an earlier one was changed on
// its way: the session of a command that was said not to have been carried out is
// gone with it.
func (x *exchange) believable(err error) error {
	refused, _ := err.(*Error)
	if x.resent && len(x.uses) > 0 && refused != nil && refused.code() >= tpm2.TPMRCReferenceS0 && refused.code() <= tpm2.TPMRCReferenceS6 {
		return fmt.Errorf("%s: its session has ended with a command that the TPM was said not to have carried out", commandName(x.cc))
	}
	return err
}

// selfTest is TPM2_SelfTest of what was not tested yet. Part 3, section 10.2.
var selfTest = []byte{0x80, 0x01, 0, 0, 0, headerSize + 1, 0, 0, 0x01, 0x43, 0}

func (x *exchange) sendOnce() ([]byte, error) {
	reply, err := x.conn.tpm.Send(x.msg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", commandName(x.cc), err)
	}
	return reply, x.checkHeader(reply)
}

// checkHeader returns the TPM's refusal as an *Error.
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
	// A success without the authorization that was asked for is nobody's success.
	case uint16(tag) != binary.BigEndian.Uint16(x.msg):
		return malformed(x.cc, "tag %#04x does not fit the command's authorization", tag)
	}
	return nil
}

// isRefusal reports whether err is a refusal of the TPM's.
func isRefusal(err error) bool {
	var refused *Error
	return errors.As(err, &refused)
}
