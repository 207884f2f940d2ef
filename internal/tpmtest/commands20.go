package tpmtest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
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

// Handles20 returns what is in a TPM 2.0 from a handle on: 0x80000000 objects,
// 0x02000000 sessions, 0x03000000 sessions that are swapped out, 0x81000000 persistent
// objects. TPM 2.0 Library Part 3, section 30.2 (TPM2_GetCapability).
func Handles20(tpm transport.TPM, first uint32) ([]uint32, error) {
	rsp, err := tpm.Send(command(0x8001, 0x17A, []uint32{1, first, 254}))
	if err != nil {
		return nil, err
	}
	if code, _ := (Exchange{Response: rsp}).Code(); code != 0 || len(rsp) < 19 || (len(rsp)-19)%4 != 0 {
		return nil, fmt.Errorf("TPM2_GetCapability: %x", rsp)
	}
	var all []uint32
	for list := rsp[19:]; len(list) > 0; list = list[4:] {
		all = append(all, binary.BigEndian.Uint32(list))
	}
	return all, nil
}

// SpendTries has a TPM 2.0 count so many wrong secrets.
func SpendTries(t testing.TB, tpm transport.TPM, tries int) {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHNull,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("secret")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("sealed")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
		}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(tpm)
	wrong := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name, Auth: tpm2.PasswordAuth([]byte("wrong"))}}
	for spent := 0; spent < tries; {
		switch _, err = wrong.Execute(tpm); {
		case errors.Is(err, tpm2.TPMRCAuthFail):
			spent++
		case !errors.Is(err, tpm2.TPMRCRetry):
			t.Fatalf("try %d: %v", spent, err)
		}
	}
}
