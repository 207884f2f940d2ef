package tpmtest

import (
	"crypto/sha256"
	"encoding/binary"
)

// Prebuilt TPM 1.2 commands: TPM Main Part 3, sections 6.6
// (TSC_PhysicalPresence), 5.4 (TPM_PhysicalDisable), 5.5
// (TPM_PhysicalSetDeactivated).
var (
	cmdEnablePresence = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	presence          = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x08}
	physicalDisable   = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x70}
	setDeactivated    = []byte{0, 0xC1, 0, 0, 0, 11, 0, 0, 0, 0x72, 1}
)

// Handles of TPM 2.0: Part 2, sections 7.2 (TPM_HT) and 7.4 (TPM_RH).
const (
	loadedSessions  = 0x02000000
	savedSessions   = 0x03000000
	transients      = 0x80000000
	ownerHierarchy  = 0x40000001
	passwordSession = 0x40000009
	lockout         = 0x4000000A
	platform        = 0x4000000C
)

// command is a command of TPM 2.0: 32-bit words, such as handles, and what else there
// is.
func command(tag uint16, code uint32, words []uint32, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+4*len(words)+len(rest)))
	b = binary.BigEndian.AppendUint32(b, code)
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return append(b, rest...)
}

// authorized is a command of TPM 2.0 that the empty password of its only handle
// authorizes.
func authorized(code, handle uint32, parameters ...byte) []byte {
	auth := []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	return command(0x8002, code, []uint32{handle}, append(auth, parameters...)...)
}

var (
	startup20  = command(0x8001, 0x144, nil, 0, 0) // TPM_SU_CLEAR
	shutdown20 = command(0x8001, 0x145, nil, 0, 0)
)

// PCRExtend is TPM2_PCR_Extend of a PCR's SHA-256 bank with the digest of a text, for
// [SWTPM.Send] and [Proxy.Send].
func PCRExtend(pcr uint32, text string) []byte {
	digest := sha256.Sum256([]byte(text))
	return authorized(0x182, pcr, append([]byte{0, 0, 0, 1, 0, 0x0B}, digest[:]...)...)
}

// PCRReset is TPM2_PCR_Reset, which PCRs 16 and 23 allow.
func PCRReset(pcr uint32) []byte { return authorized(0x13D, pcr) }

// LockoutParameters is TPM2_DictionaryAttackParameters: so many wrong secrets lead to
// a lockout, each is forgotten after so many seconds, and the lockout's own secret can
// be tried again after so many.
func LockoutParameters(tries, recovery, lockoutRecovery uint32) []byte {
	var b []byte
	for _, v := range []uint32{tries, recovery, lockoutRecovery} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return authorized(0x13A, lockout, b...)
}

// LockoutReset is TPM2_DictionaryAttackLockReset.
func LockoutReset() []byte { return authorized(0x139, lockout) }
