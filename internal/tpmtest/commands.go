package tpmtest

// Prebuilt TPM 1.2 commands of physical presence.
// TPM Main Part 3, sections 4.1 to 4.4.
var (
	cmdEnablePresence = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	presence          = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x08}
	physicalDisable   = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x70}
	setDeactivated    = []byte{0, 0xC1, 0, 0, 0, 11, 0, 0, 0, 0x72, 1}
)
