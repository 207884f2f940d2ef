package tpm12

import (
	"encoding/binary"
	"errors"
	"fmt"

	"maclef/internal/tpmconn"
	"maclef/internal/transport/frame"
)

// Tags of commands and responses. TPM Main Part 2, section 6.
const (
	tagRequest    = 0x00c1 // TPM_TAG_RQU_COMMAND; TPM_TAG_RQU_AUTH1_COMMAND and TPM_TAG_RQU_AUTH2_COMMAND follow
	tagReply      = 0x00c4 // TPM_TAG_RSP_COMMAND; TPM_TAG_RSP_AUTH1_COMMAND follows
	tagReplyAuth2 = 0x00c6 // TPM_TAG_RSP_AUTH2_COMMAND
)

const (
	headerSize   = frame.HeaderSize
	maxReplySize = frame.MaxSize
)

// A command is one exchange with the TPM.
//
//	tag(2) size(4) ordinal(4) handles params [authHandle(4) nonceOdd(20) continue(1) inAuth(20)]…
type command struct {
	ordinal Ordinal
	handles []byte // input handles; the authorization HMAC does not cover them
	params  []byte // the other input parameters
	auth    *authorization
	auth2   *authorization // the second one; nil without auth
	// outHandles is how many bytes of handles the reply has before its parameters. The
	// authorization HMAC does not cover them.
	outHandles int
	conn       *Conn // the Conn that runs the command
}

// tagTPM20 is TPM_ST_NO_SESSIONS of TPM 2.0. A TPM 2.0 answers a TPM 1.2 command with this tag or
// with TPM_BADTAG.
const tagTPM20 = 0x8001

// ErrTPM20 means that the reply came from a TPM 2.0.
var ErrTPM20 = errors.New("this is a TPM 2.0")

// An Error means that the TPM refused a command and did not execute it. After any other error
// (lost connection, malformed reply) the command may have been executed.
type Error struct {
	Ordinal Ordinal
	Code    ResultCode
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %v", e.Ordinal, e.Code) }

// Opens reports whether the command opens a session.
func (e *Error) Opens() bool { return e.Ordinal == ordOIAP || e.Ordinal == ordOSAP }

// Saves reports whether the command saves a context. It has other result codes than most commands
// for a handle that the TPM does not know.
func (e *Error) Saves() bool { return e.Ordinal == ordSaveContext }

// Unwrap lets errors.Is find the result code.
func (e *Error) Unwrap() error { return e.Code }

// Result returns the command's name, the result code and the code's name.
func (e *Error) Result() (command string, code uint32, name string) {
	return fmt.Sprint(e.Ordinal), uint32(e.Code), e.Code.Name()
}

// An Unanswered is the error of a command whose reply is missing or cannot be trusted.
type Unanswered = tpmconn.Unanswered

// run sends cmd and returns the reply's handles and parameters. An error is an *Error or an
// *Unanswered. handles may be set with an *Unanswered if only the reply's HMAC is wrong, because
// the command may have loaded something.
func (c *Conn) run(cmd *command) (handles, params []byte, err error) {
	cmd.conn = c
	handles, params, err = c.execute(cmd)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		err = cmd.unanswered(err)
	}
	return handles, params, err
}

// unanswered returns an *Unanswered and drops the connection if the transport can do that,
// because it is no longer known what is loaded.
func (cmd *command) unanswered(err error) error {
	if !errors.Is(err, ErrTPM20) {
		cmd.conn.Drop()
	}
	return &Unanswered{Secret: cmd.auth != nil, Cause: err}
}

// badReply is malformed for a reply whose header and HMAC were good.
func (cmd *command) badReply(format string, args ...any) error {
	return cmd.unanswered(cmd.malformed(format, args...))
}

func (c *Conn) execute(cmd *command) (handles, params []byte, err error) {
	body, err := c.exchange(cmd)
	if err != nil {
		return nil, nil, err
	}
	trailer := cmd.authorizations() * authReplySize
	if len(body) < cmd.outHandles+trailer {
		return nil, nil, cmd.malformed("%d bytes are too few", headerSize+len(body))
	}
	end := len(body) - trailer
	handles, params = body[:cmd.outHandles], body[cmd.outHandles:end]
	for i, a := range []*authorization{cmd.auth, cmd.auth2}[:cmd.authorizations()] {
		if err := c.verify(a, cmd.ordinal, params, body[end+i*authReplySize:][:authReplySize]); err != nil {
			return handles, nil, cmd.malformed("%w", err)
		}
	}
	return handles, params, nil
}

// authorizations returns how many authorizations the command has.
func (cmd *command) authorizations() int {
	switch {
	case cmd.auth2 != nil:
		return 2
	case cmd.auth != nil:
		return 1
	}
	return 0
}

// runPlain runs a command that has no authorization and no reply parameters.
func (c *Conn) runPlain(cmd *command) error {
	_, out, err := c.run(cmd)
	if err == nil && len(out) != 0 {
		return cmd.badReply("%d bytes of parameters, expected none", len(out))
	}
	return err
}

// marshal returns the bytes of cmd, which are valid until the next call.
func (c *Conn) marshal(cmd *command) []byte {
	n := cmd.authorizations()
	size := headerSize + len(cmd.handles) + len(cmd.params) + n*authRequestSize
	b := binary.BigEndian.AppendUint16(c.buf[:0], tagRequest+uint16(n))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint32(b, uint32(cmd.ordinal))
	b = append(b, cmd.handles...)
	b = append(b, cmd.params...)
	if cmd.auth != nil {
		b = c.appendAuth(b, cmd.auth, cmd.ordinal, cmd.params)
	}
	if cmd.auth2 != nil {
		b = c.appendAuth(b, cmd.auth2, cmd.ordinal, cmd.params)
	}
	c.buf = b
	return b
}

// checkHeader returns what follows the header of a successful reply. If the TPM refused the
// command, the error is an *Error.
func (cmd *command) checkHeader(reply []byte, known12 bool) ([]byte, error) {
	if len(reply) < headerSize || len(reply) > maxReplySize {
		return nil, cmd.malformed("a reply has 10 to %d bytes, this one %d", maxReplySize, len(reply))
	}
	tag := binary.BigEndian.Uint16(reply)
	size := binary.BigEndian.Uint32(reply[2:])
	code := ResultCode(binary.BigEndian.Uint32(reply[6:]))
	if size != uint32(len(reply)) {
		return nil, cmd.malformed("its header says %d bytes, it has %d", size, len(reply))
	}
	if (tag == tagTPM20 || code == BadTag) && !known12 {
		return nil, fmt.Errorf("%v: %w", cmd.ordinal, ErrTPM20)
	}
	if tag < tagReply || tag > tagReplyAuth2 {
		return nil, cmd.malformed("unknown tag %#04x", tag)
	}
	if code != 0 {
		if tag != tagReply || size != headerSize {
			return nil, cmd.malformed("an error reply of %d bytes with tag %#04x", size, tag)
		}
		return nil, &Error{Ordinal: cmd.ordinal, Code: code}
	}
	// A reply to an authorized command must have an HMAC, or anybody could have sent it.
	if tag != tagReply+uint16(cmd.authorizations()) {
		return nil, cmd.malformed("tag %#04x does not fit the command's authorization", tag)
	}
	return reply[headerSize:], nil
}

// malformed returns the error for a reply that no TPM 1.2 sends.
func (cmd *command) malformed(format string, args ...any) error {
	return fmt.Errorf("%v: malformed reply: %w", cmd.ordinal, fmt.Errorf(format, args...))
}

// u32 returns v as four bytes, big-endian.
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// sized returns data with its length in front, as four bytes.
func sized(data []byte) []byte { return append(u32(uint32(len(data))), data...) }
