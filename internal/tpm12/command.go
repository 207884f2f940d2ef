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
	tagRequest      = 0x00c1 // TPM_TAG_RQU_COMMAND
	tagRequestAuth1 = 0x00c2 // TPM_TAG_RQU_AUTH1_COMMAND
	tagReply        = 0x00c4 // TPM_TAG_RSP_COMMAND
	tagReplyAuth1   = 0x00c5 // TPM_TAG_RSP_AUTH1_COMMAND
)

const (
	headerSize   = frame.HeaderSize
	maxReplySize = frame.MaxSize
)

// A command is one exchange with the TPM.
//
//	tag(2) size(4) ordinal(4) handles params [authHandle(4) nonceOdd(20) continue(1) inAuth(20)]
type command struct {
	ordinal Ordinal
	handles []byte // input handles, which an authorization does not cover
	params  []byte // the other input parameters
	auth    *authorization
	// outHandles is how many bytes of handles lead the reply's parameters; an
	// authorization does not cover them either.
	outHandles int
	conn       *Conn // that runs it
}

// tagTPM20 is TPM_ST_NO_SESSIONS of TPM 2.0. It or TPM_BADTAG is what a TPM 2.0
// answers to a command of TPM 1.2.
const tagTPM20 = 0x8001

// ErrTPM20 is a reply that only a TPM 2.0 gives.
var ErrTPM20 = errors.New("this is a TPM 2.0")

// An Error is a command that the TPM refused: it did nothing. What is no Error
// (a lost connection, a malformed reply) may have been done.
type Error struct {
	Ordinal Ordinal
	Code    ResultCode
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %v", e.Ordinal, e.Code) }

// Opens reports whether the command was to open a session, and nothing else.
func (e *Error) Opens() bool { return e.Ordinal == ordOIAP || e.Ordinal == ordOSAP }

// Saves reports whether the command was to save a key or a session, for which a TPM says
// in words of its own that it does not have it.
func (e *Error) Saves() bool { return e.Ordinal == ordSaveContext }

// Unwrap lets errors.Is find the result code.
func (e *Error) Unwrap() error { return e.Code }

// Refusal returns what was refused: the command, the result code and its name.
func (e *Error) Refusal() (command string, code uint32, name string) {
	return fmt.Sprint(e.Ordinal), uint32(e.Code), e.Code.Name()
}

// An Unanswered command has no answer that can be trusted.
type Unanswered = tpmconn.Unanswered

// run sends cmd and returns the reply's handles and parameters. An error is an
// *Error or an *Unanswered; with the latter there are handles only where the
// reply's HMAC is wrong: something may have been loaded.
func (c *Conn) run(cmd *command) (handles, params []byte, err error) {
	cmd.conn = c
	handles, params, err = c.converse(cmd)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		err = cmd.unanswered(err)
	}
	return handles, params, err
}

// unanswered says that the reply cannot be trusted. A transport that can breaks the
// connection: what is loaded now is not known.
func (cmd *command) unanswered(err error) error {
	if !errors.Is(err, ErrTPM20) {
		cmd.conn.Drop()
	}
	return &Unanswered{Secret: cmd.auth != nil, Cause: err}
}

// untrusted is malformed for what follows a good header and HMAC.
func (cmd *command) untrusted(format string, args ...any) error {
	return cmd.unanswered(cmd.malformed(format, args...))
}

func (c *Conn) converse(cmd *command) (handles, params []byte, err error) {
	body, err := c.exchange(cmd)
	if err != nil {
		return nil, nil, err
	}
	trailer := 0
	if cmd.auth != nil {
		trailer = authReplySize
	}
	if len(body) < cmd.outHandles+trailer {
		return nil, nil, cmd.malformed("%d bytes are too few", headerSize+len(body))
	}
	end := len(body) - trailer
	handles, params = body[:cmd.outHandles], body[cmd.outHandles:end]
	if cmd.auth != nil {
		if err := c.verify(cmd.auth, cmd.ordinal, params, body[end:]); err != nil {
			return handles, nil, cmd.malformed("%w", err)
		}
	}
	return handles, params, nil
}

// runPlain runs a command without authorization and without reply parameters.
func (c *Conn) runPlain(cmd *command) error {
	_, out, err := c.run(cmd)
	if err == nil && len(out) != 0 {
		return cmd.untrusted("%d bytes of parameters where none belong", len(out))
	}
	return err
}

// marshal returns cmd's bytes, valid until the next call.
func (c *Conn) marshal(cmd *command) []byte {
	size := headerSize + len(cmd.handles) + len(cmd.params)
	tag := uint16(tagRequest)
	if cmd.auth != nil {
		tag = tagRequestAuth1
		size += authRequestSize
	}
	b := binary.BigEndian.AppendUint16(c.buf[:0], tag)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint32(b, uint32(cmd.ordinal))
	b = append(b, cmd.handles...)
	b = append(b, cmd.params...)
	if cmd.auth != nil {
		b = c.appendAuth(b, cmd.auth, cmd.ordinal, cmd.params)
	}
	c.buf = b
	return b
}

// checkHeader returns what follows the header of a successful reply, or the
// TPM's refusal as an *Error.
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
	if tag != tagReply && tag != tagReplyAuth1 {
		return nil, cmd.malformed("unknown tag %#04x", tag)
	}
	if code != 0 {
		if tag != tagReply || size != headerSize {
			return nil, cmd.malformed("an error reply of %d bytes with tag %#04x", size, tag)
		}
		return nil, &Error{Ordinal: cmd.ordinal, Code: code}
	}
	// A success without the HMAC that was asked for is nobody's success.
	if (cmd.auth != nil) != (tag == tagReplyAuth1) {
		return nil, cmd.malformed("tag %#04x does not fit the command's authorization", tag)
	}
	return reply[headerSize:], nil
}

// malformed says that the reply to cmd is not one a TPM 1.2 gives.
func (cmd *command) malformed(format string, args ...any) error {
	return fmt.Errorf("%v: malformed reply: %w", cmd.ordinal, fmt.Errorf(format, args...))
}

// u32 is a handle or a number as four bytes, most significant first.
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// sized is data behind its length as four bytes.
func sized(data []byte) []byte { return append(u32(uint32(len(data))), data...) }
