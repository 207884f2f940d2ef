package transport

import (
	"encoding/binary"
	"time"
)

// quick are the commands of TPM 1.2 that are used with keys; the slowest, on the
// slowest chips, take a few seconds. TPM Main Part 2, section 17 (Ordinals).
var quick = map[uint32]bool{
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

// limitOf is how long a TPM may take for a command before it is taken for dead.
func (w *waits) limitOf(cmd []byte) time.Duration {
	if binary.BigEndian.Uint16(cmd) < tagNoSessions && quick[binary.BigEndian.Uint32(cmd[6:])] {
		return min(w.quick, w.command)
	}
	return w.command
}
