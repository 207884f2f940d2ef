package tpm12

import "fmt"

// An Ordinal is the number of a command. TPM Main Part 2, section 17 (Ordinals).
type Ordinal uint32

// The ordinals that this package sends.
const (
	ordOIAP                     Ordinal = 0x0a
	ordOSAP                     Ordinal = 0x0b
	ordTakeOwnership            Ordinal = 0x0d
	ordPCRRead                  Ordinal = 0x15
	ordSeal                     Ordinal = 0x17
	ordUnseal                   Ordinal = 0x18
	ordUnBind                   Ordinal = 0x1e
	ordCreateWrapKey            Ordinal = 0x1f
	ordGetPubKey                Ordinal = 0x21
	ordSign                     Ordinal = 0x3c
	ordResetLockValue           Ordinal = 0x40
	ordLoadKey2                 Ordinal = 0x41
	ordGetRandom                Ordinal = 0x46
	ordContinueSelfTest         Ordinal = 0x53
	ordOwnerClear               Ordinal = 0x5b
	ordForceClear               Ordinal = 0x5d
	ordGetCapability            Ordinal = 0x65
	ordOwnerSetDisable          Ordinal = 0x6e
	ordPhysicalEnable           Ordinal = 0x6f
	ordPhysicalDisable          Ordinal = 0x70
	ordSetOwnerInstall          Ordinal = 0x71
	ordPhysicalSetDeactivated   Ordinal = 0x72
	ordCreateEndorsementKeyPair Ordinal = 0x78
	ordReadPubek                Ordinal = 0x7c
	ordOwnerReadInternalPub     Ordinal = 0x81
	ordStartup                  Ordinal = 0x99
	ordSaveContext              Ordinal = 0xb8
	ordLoadContext              Ordinal = 0xb9
	ordFlushSpecific            Ordinal = 0xba
	ordPhysicalPresence         Ordinal = 0x4000000a
)

var ordinalNames = map[Ordinal]string{
	ordOIAP: "TPM_OIAP", ordOSAP: "TPM_OSAP", ordTakeOwnership: "TPM_TakeOwnership",
	ordPCRRead: "TPM_PCRRead", ordSeal: "TPM_Seal", ordUnseal: "TPM_Unseal", ordUnBind: "TPM_UnBind",
	ordCreateWrapKey: "TPM_CreateWrapKey", ordGetPubKey: "TPM_GetPubKey", ordSign: "TPM_Sign",
	ordResetLockValue: "TPM_ResetLockValue", ordLoadKey2: "TPM_LoadKey2", ordGetRandom: "TPM_GetRandom",
	ordContinueSelfTest: "TPM_ContinueSelfTest", ordOwnerClear: "TPM_OwnerClear", ordForceClear: "TPM_ForceClear",
	ordGetCapability: "TPM_GetCapability", ordOwnerSetDisable: "TPM_OwnerSetDisable",
	ordPhysicalEnable: "TPM_PhysicalEnable", ordPhysicalDisable: "TPM_PhysicalDisable",
	ordSetOwnerInstall: "TPM_SetOwnerInstall", ordPhysicalSetDeactivated: "TPM_PhysicalSetDeactivated",
	ordCreateEndorsementKeyPair: "TPM_CreateEndorsementKeyPair", ordReadPubek: "TPM_ReadPubek",
	ordOwnerReadInternalPub: "TPM_OwnerReadInternalPub", ordStartup: "TPM_Startup",
	ordSaveContext: "TPM_SaveContext", ordLoadContext: "TPM_LoadContext", ordFlushSpecific: "TPM_FlushSpecific",
	ordPhysicalPresence: "TSC_PhysicalPresence",
}

// String returns the command's name in the specification.
func (o Ordinal) String() string {
	if name, ok := ordinalNames[o]; ok {
		return name
	}
	return fmt.Sprintf("TPM command %#x", uint32(o))
}
