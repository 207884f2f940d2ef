package tpmtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// Prebuilt TPM 1.2 commands: TPM Main Part 3, sections 5.4 (TPM_PhysicalDisable), 5.5
// (TPM_PhysicalSetDeactivated) and 6.6 (TSC_PhysicalPresence).
var (
	cmdEnablePresence = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	presence          = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x08}
	physicalDisable   = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x70}
	setDeactivated    = []byte{0, 0xC1, 0, 0, 0, 11, 0, 0, 0, 0x72, 1}
)

// Handles of TPM 2.0. TPM 2.0 Library Part 2, sections 7.2 (TPM_HT) and 7.4 (TPM_RH).
const (
	loadedSessions  = 0x02000000
	savedSessions   = 0x03000000
	transients      = 0x80000000
	ownerHierarchy  = 0x40000001
	passwordSession = 0x40000009
	lockout         = 0x4000000A
	platform        = 0x4000000C
)

// command returns a TPM 2.0 command with 32-bit words, such as handles, and further bytes.
func command(tag uint16, code uint32, words []uint32, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+4*len(words)+len(rest)))
	b = binary.BigEndian.AppendUint32(b, code)
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return append(b, rest...)
}

// authorized returns a TPM 2.0 command with one handle, authorized with the empty password.
func authorized(code, handle uint32, parameters ...byte) []byte {
	auth := []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	return command(0x8002, code, []uint32{handle}, append(auth, parameters...)...)
}

var (
	startup20  = command(0x8001, 0x144, nil, 0, 0) // TPM_SU_CLEAR
	shutdown20 = command(0x8001, 0x145, nil, 0, 0)
)

// PCRExtend returns TPM2_PCR_Extend of a PCR's SHA-256 bank with the digest of a text, for
// [SWTPM.Send] and [Proxy.Send].
func PCRExtend(pcr uint32, text string) []byte {
	digest := sha256.Sum256([]byte(text))
	return authorized(0x182, pcr, append([]byte{0, 0, 0, 1, 0, 0x0B}, digest[:]...)...)
}

// PCRExtend12 returns TPM_Extend of a PCR of a TPM 1.2 with the SHA-1 digest of a text. TPM Main
// Part 3, section 16.1 (TPM_Extend).
func PCRExtend12(pcr uint32, text string) []byte {
	digest := sha1.Sum([]byte(text))
	return append([]byte{0, 0xC1, 0, 0, 0, 34, 0, 0, 0, 0x14, 0, 0, 0, byte(pcr)}, digest[:]...)
}

// PCRReset returns TPM2_PCR_Reset, which PCRs 16 and 23 allow.
func PCRReset(pcr uint32) []byte { return authorized(0x13D, pcr) }

// LockoutParameters returns TPM2_DictionaryAttackParameters. tries wrong secrets lead to a
// lockout. A wrong secret is forgotten after recovery seconds. The lockout secret can be
// tried again after lockoutRecovery seconds.
func LockoutParameters(tries, recovery, lockoutRecovery uint32) []byte {
	var b []byte
	for _, v := range []uint32{tries, recovery, lockoutRecovery} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return authorized(0x13A, lockout, b...)
}

// LockoutReset returns TPM2_DictionaryAttackLockReset.
func LockoutReset() []byte { return authorized(0x139, lockout) }

// PublicArea makes a TPM2B_PUBLIC of any fields. An int becomes a uint16, a uint32 stays as
// it is, and a []byte gets its size before it.
func PublicArea(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case tpm2.TPMAlgID:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case tpm2.TPMECCCurve:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case []byte:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
		default:
			panic(f)
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
