package advice

import "github.com/google/go-tpm/tpm2"

// cures20 has the cure for each result code of a TPM 2.0 that there is something to do
// about. chip20.Cause has the causes.
var cures20 = map[tpm2.TPMRC]string{
	tpm2.TPMRCAuthFail:       "each try brings the lockout nearer, so find out what it is before the next",
	tpm2.TPMRCLockout:        "wait until tries come back, or end it with the lockout secret (tpmctl reset-lockout)",
	tpm2.TPMRCInitialize:     "open it once with tpmctl status",
	tpm2.TPMRCFailure:        "restart the machine; libtpms says so, too, of a ciphertext with bad padding",
	tpm2.TPMRCObjectMemory:   "tpmctl flush frees those that killed programs left, and /dev/tpmrm0 has no such limit",
	tpm2.TPMRCSessionMemory:  "tpmctl flush frees those that killed programs left",
	tpm2.TPMRCRetry:          "try again",
	tpm2.TPMRCTesting:        "try again",
	tpm2.TPMRCHierarchy:      "see the firmware's (BIOS) menu",
	tpm2.TPMRCPCRChanged:     "try again",
	tpm2.TPMRCCurve:          "tpmctl status lists what it has",
	tpm2.TPMRCKeySize:        "tpmctl status lists what it has",
	tpm2.TPMRCHash:           "tpmctl status lists what it has",
	tpm2.TPMRCNVRate:         "wait and try again",
	tpm2.TPMRCNVUnavailable:  "try again",
	tpm2.TPMRCPP:             "use the firmware's (BIOS) menu",
	tpm2.TPMRCReboot:         "restart the machine",
	tpm2.TPMRCNeedsTest:      "restart the machine, whose kernel then has it do so",
	tpm2.TPMRCContextGap:     "tpmctl flush -saved frees it",
	tpm2.TPMRCSessionHandles: "tpmctl flush -saved frees them",
	tpm2.TPMRCMemory:         "stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
}
