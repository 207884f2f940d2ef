package advice

import "maclef/internal/tpm12"

// cures12 has the cure for each result code of a TPM 1.2 that there is something to do
// about. chip12.Cause has the causes.
var cures12 = map[tpm12.ResultCode]string{
	tpm12.AuthFail:          "each try brings the lockout nearer, so find out how it was set before the next",
	tpm12.ClearDisabled:     "where the owner has forbidden it, clear with tpmctl clear -force; else clear in the firmware's menu",
	tpm12.Deactivated:       "activate it with tpmctl activate, or in the firmware's (BIOS) menu, and restart",
	tpm12.Disabled:          "enable it with tpmctl enable, or in the firmware's (BIOS) menu",
	tpm12.Fail:              "try again, then restart the machine; a chip that is broken says TPM_FAILEDSELFTEST",
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
	tpm12.FailedSelfTest:    "switch the machine off and on again (a restart may not be enough), and if it stays, the chip is broken",
	tpm12.IOError:           "try again, and if it stays, switch the machine off and on",
	tpm12.InvalidAuthHandle: "try again",
	tpm12.NoEndorsement:     "tpmctl own makes one",
	tpm12.InvalidKeyUsage:   "see tpmctl inspect",
	tpm12.InvalidPostInit:   "restart the machine, or swtpm with --flags not-need-init,startup-clear",
	tpm12.InappropriateSig:  "see tpmctl inspect",
	tpm12.BadKeyProperty:    "2048-bit keys work on each",
	tpm12.BadScheme:         "see tpmctl inspect",
	tpm12.BadPresence:       "use the firmware's (BIOS) menu",
	tpm12.BadVersion:        "a ciphertext for an OAEP key must be made by tpmctl encrypt or Tspi_Data_Bind",
	tpm12.MaxNVWrites:       "take ownership with tpmctl own",
	tpm12.Retry:             "try again in a few seconds",
	tpm12.NeedsSelfTest:     "restart the machine, whose kernel then has it do so",
	tpm12.DoingSelfTest:     "try again in a few seconds",
	tpm12.DefendLockRunning: "wait (tpmctl status tells how long), or end it with the owner's secret: tpmctl reset-lockout",
}
