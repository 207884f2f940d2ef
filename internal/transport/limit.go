package transport

import (
	"encoding/binary"
	"time"
)

// quick12 are the commands of TPM 1.2 that are used with keys; the slowest, on the
// slowest chips, take a few seconds. TPM Main Part 2, section 17 (Ordinals).
var quick12 = map[uint32]bool{
	0x0a: true, // TPM_OIAP
	0x0b: true, // TPM_OSAP
	0x1e: true, // TPM_UnBind
	0x21: true, // TPM_GetPubKey
	0x3c: true, // TPM_Sign
	0x41: true, // TPM_LoadKey2
	0x46: true, // TPM_GetRandom
	0x65: true, // TPM_GetCapability
	0xb8: true, // TPM_SaveContext
	0xb9: true, // TPM_LoadContext
	0xba: true, // TPM_FlushSpecific
}

// slow20 are the commands of TPM 2.0 that may make a key or a prime, test the chip,
// or write a lot: TPM2_Create alone takes most of a minute on some. Nothing else keeps
// a chip busy for longer than a few seconds. TPM 2.0 Library Part 2, section 6.5.2
// (TPM_CC).
var slow20 = map[uint32]bool{
	0x11F: true, // TPM2_NV_UndefineSpaceSpecial
	0x121: true, // TPM2_HierarchyControl
	0x122: true, // TPM2_NV_UndefineSpace
	0x124: true, // TPM2_ChangeEPS
	0x125: true, // TPM2_ChangePPS
	0x126: true, // TPM2_Clear
	0x12A: true, // TPM2_NV_DefineSpace
	0x12B: true, // TPM2_PCR_Allocate
	0x12F: true, // TPM2_FieldUpgradeStart
	0x131: true, // TPM2_CreatePrimary
	0x141: true, // TPM2_FieldUpgradeData
	0x142: true, // TPM2_IncrementalSelfTest
	0x143: true, // TPM2_SelfTest
	0x144: true, // TPM2_Startup
	0x145: true, // TPM2_Shutdown
	0x153: true, // TPM2_Create
	0x179: true, // TPM2_FirmwareRead
	0x191: true, // TPM2_CreateLoaded
}

// vendor20 marks the commands that a maker of TPM 2.0 adds.
const vendor20 = 1 << 29

// limitOf is how long a TPM may take for a command before it is taken for dead.
func (w *waits) limitOf(cmd []byte) time.Duration {
	code := binary.BigEndian.Uint32(cmd[6:])
	quick := quick12[code]
	if binary.BigEndian.Uint16(cmd) >= tagNoSessions {
		quick = !slow20[code] && code&vendor20 == 0
	}
	if quick {
		return min(w.quick, w.command)
	}
	return w.command
}
