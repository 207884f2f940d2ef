package tpmtest

// Prebuilt TPM 1.2 commands: TPM Main Part 3, sections 7.1 (version), 6.6
// (TSC_PhysicalPresence), 5.4 (TPM_PhysicalDisable), 5.5
// (TPM_PhysicalSetDeactivated).
var (
	getVersion        = []byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 6, 0, 0, 0, 0}
	cmdEnablePresence = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	presence          = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x08}
	physicalDisable   = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x70}
	setDeactivated    = []byte{0, 0xC1, 0, 0, 0, 11, 0, 0, 0, 0x72, 1}
)
