package transport

import (
	"time"

	"maclef/internal/transport/frame"
)

// timeouts say how long to wait for something.
type timeouts struct {
	probe   time.Duration // for the answer to the first, short command
	slow    time.Duration // for the slowest commands, such as key generation on a chip
	command time.Duration // for commands that are neither slow nor quick
	quick   time.Duration // for commands that every chip answers quickly
	turn    time.Duration // for other programs that use the TPM
	start   time.Duration // for swtpm to start, or for an old one to end
	grace   time.Duration // for a TPM that disappeared to come back
}

func defaultTimeouts() timeouts {
	return timeouts{
		probe:   8 * time.Second,
		slow:    5 * time.Minute,
		command: 30 * time.Second,
		quick:   10 * time.Second,
		turn:    time.Minute,
		start:   20 * time.Second,
		grace:   10 * time.Second,
	}
}

// A commandID is a command's first byte, which tells the generation, and its command code.
type commandID struct {
	generation byte
	code       uint32
}

// slow are the commands that may make a key, test the chip, or erase much. TPM2_Create
// takes most of a minute on some chips. TPM Main Part 2, section 17 (Ordinals); TPM 2.0
// Library Part 2, section 6.5.2 (TPM_CC).
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

// quick are commands that compute nothing with keys.
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

// forCommand returns how long to wait for the response to a command.
func (w *timeouts) forCommand(cmd []byte) time.Duration {
	id := commandID{cmd[0], frame.Code(cmd)}
	switch {
	case slow[id]:
		return w.slow
	case quick[id]:
		return min(w.quick, w.command)
	}
	return w.command
}
