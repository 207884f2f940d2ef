package transport

import (
	"time"

	"maclef/internal/transport/frame"
)

// waits are the times after which something is given up.
type waits struct {
	probe   time.Duration // a living TPM answers a short command within this
	slow    time.Duration // the slowest commands: key generation on a chip
	command time.Duration // all that are neither slow nor quick
	quick   time.Duration // commands that no chip thinks about for long
	turn    time.Duration // other programs that use the TPM
	start   time.Duration // swtpm to start, or an old one to end
	grace   time.Duration // a TPM that was there to come back
}

func defaultWaits() waits {
	return waits{
		probe:   8 * time.Second,
		slow:    5 * time.Minute,
		command: 30 * time.Second,
		quick:   10 * time.Second,
		turn:    time.Minute,
		start:   20 * time.Second,
		grace:   10 * time.Second,
	}
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
	id := commandID{cmd[0], frame.Code(cmd)}
	switch {
	case slow[id]:
		return w.slow
	case quick[id]:
		return min(w.quick, w.command)
	}
	return w.command
}
