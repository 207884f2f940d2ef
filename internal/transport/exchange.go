package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// exchange sends a command and reads its response. After an error the
// connection is out of step.
func exchange(conn stream, cmd []byte, limit time.Duration) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if n := conn.pending(); n > 0 {
		came := make([]byte, min(n, headerSize))
		got, _ := conn.Read(came) // an error: then it cannot be told what came
		return came[:got], &notSent{fmt.Errorf("%d bytes came that nobody asked for: %q", n, came[:got])}
	}
	if _, err := conn.Write(cmd); err != nil {
		return nil, &notSent{fmt.Errorf("send command: %w", err)}
	}
	rsp, err := readResponse(&hastyReader{conn: conn, limit: min(limit, restLimit)})
	switch n := conn.pending(); {
	case err == nil && n > 0:
		return rsp, fmt.Errorf("%d bytes came after the response", n)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return rsp, fmt.Errorf("it hung up after %d bytes of the response: %w", len(rsp), io.ErrUnexpectedEOF)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rsp, fmt.Errorf("no complete answer within %v: %w", limit, err)
	case err != nil:
		return rsp, fmt.Errorf("read response: %w", err)
	}
	return rsp, nil
}

// restLimit is how long the rest of a response may take after its beginning: a TPM
// thinks first, and then speaks.
const restLimit = 5 * time.Second

// A hastyReader sets a deadline once something has come.
type hastyReader struct {
	conn  stream
	limit time.Duration
	begun bool
}

func (h *hastyReader) Read(p []byte) (n int, err error) {
	n, err = h.conn.Read(p)
	if n > 0 && !h.begun {
		h.begun = true
		err = errors.Join(err, h.conn.SetDeadline(time.Now().Add(h.limit)))
	}
	return n, err
}

// A commandID is a command's first byte, which tells the generation, and its code.
type commandID struct {
	generation byte
	code       uint32
}

// slow are the commands that may make a key, test the chip, or erase a lot: TPM2_Create
// alone takes most of a minute on some chips. TPM Main Part 2, section 17 (Ordinals); TPM
// 2.0 Library Part 2, section 6.5.2 (TPM_CC).
var slow = map[commandID]bool{
	{0, 0x0d}: true, // TPM_TakeOwnership
	{0, 0x1f}: true, // TPM_CreateWrapKey
	{0, 0x50}: true, // TPM_SelfTestFull
	{0, 0x5b}: true, // TPM_OwnerClear
	{0, 0x5d}: true, // TPM_ForceClear
	{0, 0x78}: true, // TPM_CreateEndorsementKeyPair
	{0, 0x79}: true, // TPM_MakeIdentity

	{0x80, 0x124}: true, // TPM2_ChangeEPS
	{0x80, 0x125}: true, // TPM2_ChangePPS
	{0x80, 0x126}: true, // TPM2_Clear
	{0x80, 0x131}: true, // TPM2_CreatePrimary
	{0x80, 0x142}: true, // TPM2_IncrementalSelfTest
	{0x80, 0x143}: true, // TPM2_SelfTest
	{0x80, 0x153}: true, // TPM2_Create
	{0x80, 0x191}: true, // TPM2_CreateLoaded
}

// quick are those that take no computing with keys.
var quick = map[commandID]bool{
	{0, 0x65}: true, // TPM_GetCapability
	{0, 0xb8}: true, // TPM_SaveContext
	{0, 0xb9}: true, // TPM_LoadContext
	{0, 0xba}: true, // TPM_FlushSpecific

	{0x80, 0x161}: true, // TPM2_ContextLoad
	{0x80, 0x162}: true, // TPM2_ContextSave
	{0x80, 0x165}: true, // TPM2_FlushContext
	{0x80, 0x173}: true, // TPM2_ReadPublic
	{0x80, 0x17A}: true, // TPM2_GetCapability
	{0x80, 0x181}: true, // TPM2_ReadClock
}

// limitOf is how long a TPM may take for a command before it is taken for dead.
func (w *waits) limitOf(cmd []byte) time.Duration {
	id := commandID{cmd[0], binary.BigEndian.Uint32(cmd[6:])}
	switch {
	case slow[id]:
		return w.slow
	case quick[id]:
		return min(w.quick, w.command)
	}
	return w.command
}
