// Package frame reads and checks the header of TPM commands and responses, which is the
// same for both generations.
//
//	tag(2) size(4) ordinal, command code or result code(4)
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of messages, in bytes.
const (
	HeaderSize = 10
	MaxSize    = 4096 // of swtpm and the Linux driver
)

// Tags of a response: TPM Main Part 2, section 6 (TPM_TAG), and TPM 2.0
// Part 2, section 6.9 (TPM_ST).
const (
	tagRspCommand      = 0x00C4
	tagRspAuth1Command = 0x00C5
	tagRspAuth2Command = 0x00C6
	tagNoSessions      = 0x8001
	tagSessions        = 0x8002
)

// Probe returns a command that shows whether a TPM answers: TPM_GetCapability for
// TPM_CAP_VERSION. A TPM 2.0 refuses it in a well-formed response. TPM Main Part 3, section
// 7.1 (TPM_GetCapability).
func Probe() []byte { return []byte{0x00, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 0x06, 0, 0, 0, 0} }

// Code returns the ordinal of a command or the result code of a response; 0 if the message
// is too short.
func Code(message []byte) uint32 {
	if len(message) < HeaderSize {
		return 0
	}
	return binary.BigEndian.Uint32(message[6:])
}

// CheckCommand returns an error for a command whose size field is wrong. The TPM would wait
// for the rest, and take the next command for it.
func CheckCommand(cmd []byte) error {
	if len(cmd) < HeaderSize || len(cmd) > MaxSize {
		return fmt.Errorf("TPM command of %d bytes: must have %d to %d", len(cmd), HeaderSize, MaxSize)
	}
	if size := binary.BigEndian.Uint32(cmd[2:]); size != uint32(len(cmd)) {
		return fmt.Errorf("TPM command of %d bytes says in its header that it has %d", len(cmd), size)
	}
	return nil
}

// CheckResponse checks the header of a whole response.
func CheckResponse(rsp []byte) error {
	if len(rsp) == 0 {
		return errors.New("the TPM gave an empty answer")
	}
	if len(rsp) < HeaderSize {
		return fmt.Errorf("the TPM's answer has %d bytes, less than a header", len(rsp))
	}
	size, err := responseSize(rsp[:HeaderSize])
	if err != nil {
		return err
	}
	if size != len(rsp) {
		return fmt.Errorf("the TPM's answer has %d bytes and says it has %d", len(rsp), size)
	}
	return nil
}

// responseSize checks a response header and returns the size in it. A response with an
// error code has no sessions. If its tag says otherwise, it was damaged on the way, and the
// code means nothing.
func responseSize(header []byte) (int, error) {
	tag, code := binary.BigEndian.Uint16(header), Code(header)
	switch tag {
	case tagRspCommand, tagRspAuth1Command, tagRspAuth2Command, tagNoSessions, tagSessions:
	default:
		return 0, fmt.Errorf("not an answer of a TPM: it begins with %q", header)
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < HeaderSize || size > MaxSize {
		return 0, fmt.Errorf("the TPM's answer claims %d bytes: must be %d to %d", size, HeaderSize, MaxSize)
	}
	if code != 0 && tag != tagRspCommand && tag != tagNoSessions {
		return 0, fmt.Errorf("the TPM's answer has the error code %#x, and the tag %#04x of a success", code, tag)
	}
	return int(size), nil
}

// anySize returns the size in the header of a command or a response.
func anySize(header []byte) (int, error) {
	size := binary.BigEndian.Uint32(header[2:])
	if size < HeaderSize || size > MaxSize {
		return 0, fmt.Errorf("message of %d bytes", size)
	}
	return int(size), nil
}

// ReadResponse reads exactly one response from a stream and checks its header. With an
// error it returns the bytes that it has read.
func ReadResponse(r io.Reader) ([]byte, error) { return read(r, responseSize) }

// Read reads exactly one command or response. With an error it returns the bytes that it
// has read.
func Read(r io.Reader) ([]byte, error) { return read(r, anySize) }

// read never reads or allocates more than MaxSize, whatever the size field says.
func read(r io.Reader, sizeOf func(header []byte) (int, error)) ([]byte, error) {
	message := make([]byte, HeaderSize, 256)
	if n, err := io.ReadFull(r, message); err != nil {
		return message[:n], err
	}
	size, err := sizeOf(message)
	if err != nil {
		return message, err
	}
	message = append(message, make([]byte, size-HeaderSize)...)
	n, err := io.ReadFull(r, message[HeaderSize:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return message[:HeaderSize+n], err
}
