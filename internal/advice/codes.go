package advice

import (
	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm12"
)

// advice12 says what to do about result codes of a TPM 1.2. chip12.Cause has the causes.
var advice12 = map[tpm12.ResultCode]string{
	tpm12.AuthFail:          "every wrong try brings the lockout nearer, so find out how it was set before the next one",
	tpm12.ClearDisabled:     "where the owner has forbidden it, clear with tpmctl clear -force; else clear in the firmware's menu",
	tpm12.Deactivated:       "activate it with tpmctl activate, or in the firmware's (BIOS) menu, and restart",
	tpm12.Disabled:          "enable it with tpmctl enable, or in the firmware's (BIOS) menu",
	tpm12.Fail:              "try again, then restart the machine; a broken chip returns TPM_FAILEDSELFTEST",
	tpm12.InstallDisabled:   "allow it by physical presence, with tpmctl own or in the firmware's (BIOS) menu",
	tpm12.InvalidKeyHandle:  "load it again",
	tpm12.NoSpace:           "stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
	tpm12.NoSRK:             "take ownership with tpmctl own",
	tpm12.OwnerSet:          "use it with the secrets that were set then, or clear it (tpmctl clear), which makes all its key files useless",
	tpm12.Resources:         "stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
	tpm12.TooManyContexts:   "tpmctl flush -saved frees them",
	tpm12.NoContextSpace:    "tpmctl flush -saved frees them",
	tpm12.ContextGap:        "tpmctl flush -saved frees it",
	tpm12.Size:              "stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
	tpm12.FailedSelfTest:    "switch the machine off and on again (a restart may not be enough), and if the error stays, the chip is broken",
	tpm12.AuditFailDone:     "a software TPM returns this if it cannot write its state: check that its disk is not full, and try again",
	tpm12.IOError:           "try again, and if the error stays, switch the machine off and on",
	tpm12.InvalidAuthHandle: "try again",
	tpm12.NoEndorsement:     "tpmctl own makes one",
	tpm12.InvalidKeyUsage:   "see tpmctl inspect",
	tpm12.InvalidPostInit:   "restart the machine, or swtpm with --flags not-need-init,startup-clear",
	tpm12.InappropriateSig:  "see tpmctl inspect",
	tpm12.BadKeyProperty:    "all TPMs take 2048-bit keys",
	tpm12.BadScheme:         "see tpmctl inspect",
	tpm12.BadPresence:       "use the firmware's (BIOS) menu",
	tpm12.BadVersion:        "a ciphertext for an OAEP key must be made by tpmctl encrypt or Tspi_Data_Bind",
	tpm12.MaxNVWrites:       "take ownership with tpmctl own",
	tpm12.Retry:             "try again in a few seconds",
	tpm12.NeedsSelfTest:     "restart the machine: the kernel then starts the self-test",
	tpm12.DoingSelfTest:     "try again in a few seconds",
	tpm12.DefendLockRunning: "wait (tpmctl status tells how long), or end it with the owner's secret: tpmctl reset-lockout",
}

// advice20 says what to do about result codes of a TPM 2.0. chip20.Cause has the causes.
var advice20 = map[tpm2.TPMRC]string{
	tpm2.TPMRCAuthFail:       "every wrong try brings the lockout nearer, so find out what it is before the next one",
	tpm2.TPMRCLockout:        "wait until tries come back, or end it with the lockout secret (tpmctl reset-lockout)",
	tpm2.TPMRCInitialize:     "open it once with tpmctl status",
	tpm2.TPMRCFailure:        "restart the machine; libtpms also returns this for a ciphertext with bad padding, and for a damaged importable key file",
	tpm2.TPMRCObjectMemory:   "tpmctl flush frees those that killed programs left, and /dev/tpmrm0 has no such limit",
	tpm2.TPMRCSessionMemory:  "tpmctl flush frees those that killed programs left",
	tpm2.TPMRCRetry:          "try again",
	tpm2.TPMRCTesting:        "try again",
	tpm2.TPMRCHierarchy:      "see the firmware's (BIOS) menu",
	tpm2.TPMRCPCRChanged:     "try again",
	tpm2.TPMRCCurve:          "tpmctl status lists what it supports",
	tpm2.TPMRCKeySize:        "tpmctl status lists what it supports",
	tpm2.TPMRCHash:           "tpmctl status lists what it supports",
	tpm2.TPMRCNVRate:         "wait and try again",
	tpm2.TPMRCNVUnavailable:  "try again",
	tpm2.TPMRCPP:             "use the firmware's (BIOS) menu",
	tpm2.TPMRCReboot:         "restart the machine",
	tpm2.TPMRCNeedsTest:      "restart the machine: the kernel then starts the self-test",
	tpm2.TPMRCContextGap:     "tpmctl flush -saved frees it",
	tpm2.TPMRCSessionHandles: "tpmctl flush -saved frees them",
	tpm2.TPMRCMemory:         "stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
}
