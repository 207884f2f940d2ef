package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of what goes over the wire, in bytes.
const (
	headerSize = 10   // tag, size and ordinal or result code
	maxSize    = 4096 // what swtpm and the Linux driver take and give
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

// checkCommand refuses a command whose size field lies: the peer would wait
// for the rest and every answer after it would belong to another command.
func checkCommand(cmd []byte) error {
	if len(cmd) < headerSize || len(cmd) > maxSize {
		return fmt.Errorf("TPM command of %d bytes: must have %d to %d", len(cmd), headerSize, maxSize)
	}
	if size := binary.BigEndian.Uint32(cmd[2:]); size != uint32(len(cmd)) {
		return fmt.Errorf("TPM command of %d bytes says in its header that it has %d", len(cmd), size)
	}
	return nil
}

// checkResponse checks the header of a whole response.
func checkResponse(rsp []byte) error {
	if len(rsp) == 0 {
		return errors.New("the TPM gave an empty answer")
	}
	if len(rsp) < headerSize {
		return fmt.Errorf("the TPM's answer has %d bytes, less than a header", len(rsp))
	}
	size, err := responseSize(rsp[:headerSize])
	if err != nil {
		return err
	}
	if size != len(rsp) {
		return fmt.Errorf("the TPM's answer has %d bytes and says it has %d", len(rsp), size)
	}
	return nil
}

// responseSize checks a response header and gives the size in it. An error has
// the tag of a response without sessions; with another one it was garbled on the
// way, and its code means nothing.
func responseSize(header []byte) (int, error) {
	tag, code := binary.BigEndian.Uint16(header), binary.BigEndian.Uint32(header[6:])
	switch tag {
	case tagRspCommand, tagRspAuth1Command, tagRspAuth2Command, tagNoSessions, tagSessions:
	default:
		return 0, fmt.Errorf("not an answer of a TPM: it begins with %q", header)
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < headerSize || size > maxSize {
		return 0, fmt.Errorf("the TPM's answer claims %d bytes: must be %d to %d", size, headerSize, maxSize)
	}
	if code != 0 && tag != tagRspCommand && tag != tagNoSessions {
		return 0, fmt.Errorf("the TPM's answer has the error code %#x, and the tag %#04x of a success", code, tag)
	}
	return int(size), nil
}

// readResponse reads exactly one response from a stream. It never reads or
// allocates more than maxSize on the peer's word.
func readResponse(r io.Reader) ([]byte, error) {
	rsp := make([]byte, headerSize, 256)
	if n, err := io.ReadFull(r, rsp); err != nil {
		return rsp[:n], err
	}
	size, err := responseSize(rsp)
	if err != nil {
		return rsp, err
	}
	rsp = append(rsp, make([]byte, size-headerSize)...)
	n, err := io.ReadFull(r, rsp[headerSize:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return rsp[:headerSize+n], err
}
