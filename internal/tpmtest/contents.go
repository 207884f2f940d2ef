package tpmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Resource types. TPM Main Part 2, section 4.1 (TPM_RESOURCE_TYPE).
const (
	resourceKey     = 1
	resourceAuth    = 2
	resourceContext = 5
)

// capability12 returns a capability of a TPM 1.2. TPM Main Part 3, section 7.1
// (TPM_GetCapability).
func capability12(tpm transport.TPM, area uint32, part []byte) ([]byte, error) {
	cmd := []byte{0, 0xC1, 0, 0, 0, byte(18 + len(part)), 0, 0, 0, ordGetCapability}
	cmd = binary.BigEndian.AppendUint32(cmd, area)
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(len(part)))
	rsp, err := tpm.Send(append(cmd, part...))
	if err != nil {
		return nil, err
	}
	if code, _ := (Exchange{Response: rsp}).Code(); code != 0 || len(rsp) < 14 {
		return nil, fmt.Errorf("TPM_GetCapability: %x", rsp)
	}
	return rsp[14:], nil
}

// Handles12 returns the handles in a TPM 1.2. resource is 1 for keys, 2 for sessions, and 5
// for contexts that are saved outside the TPM.
func Handles12(tpm transport.TPM, resource uint32) ([]uint32, error) {
	const capHandle = 0x14
	list, err := capability12(tpm, capHandle, binary.BigEndian.AppendUint32(nil, resource))
	if err != nil {
		return nil, err
	}
	if len(list) < 2 || (len(list)-2)%4 != 0 {
		return nil, fmt.Errorf("a list of handles: %x", list)
	}
	return uint32s(list[2:]), nil
}

// tries12 returns how many wrong secrets a TPM 1.2 has counted. TPM Main Part 2, section
// 21.7 (TPM_DA_INFO): tag, state, count.
func tries12(tpm transport.TPM) (int, error) {
	const capDALogic, entitySRK = 0x19, 4
	info, err := capability12(tpm, capDALogic, []byte{0, entitySRK})
	if err != nil {
		return 0, err
	}
	if len(info) < 5 {
		return 0, fmt.Errorf("TPM_DA_INFO: %x", info)
	}
	return int(binary.BigEndian.Uint16(info[3:])), nil
}

// Handles20 returns the handles in a TPM 2.0, starting at first: 0x80000000 for objects,
// 0x02000000 for loaded sessions, 0x03000000 for saved sessions, 0x81000000 for persistent
// objects. TPM 2.0 Library Part 3, section 30.2 (TPM2_GetCapability).
func Handles20(tpm transport.TPM, first uint32) ([]uint32, error) {
	rsp, err := tpm.Send(command(0x8001, 0x17A, []uint32{1, first, 254}))
	if err != nil {
		return nil, err
	}
	if code, _ := (Exchange{Response: rsp}).Code(); code != 0 || len(rsp) < 19 || (len(rsp)-19)%4 != 0 {
		return nil, fmt.Errorf("TPM2_GetCapability: %x", rsp)
	}
	return uint32s(rsp[19:]), nil
}

// tries20 returns how many wrong secrets a TPM 2.0 has counted.
func tries20(tpm transport.TPM) (int, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTLockoutCounter), PropertyCount: 1}.Execute(tpm)
	if err != nil {
		return 0, err
	}
	properties, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return 0, err
	}
	if len(properties.TPMProperty) != 1 || properties.TPMProperty[0].Property != tpm2.TPMPTLockoutCounter {
		return 0, fmt.Errorf("TPM2_GetCapability: %+v", properties)
	}
	return int(properties.TPMProperty[0].Value), nil
}

// SpendTries sends wrong secrets to a TPM 2.0 until it has counted tries more.
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
