package tpm20_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command tpm2.TPMCC
		code    tpm2.TPMRC
		is      tpm2.TPMRC
		name    string
		text    string
	}{
		{tpm2.TPMCCLoad, 0x1df, tpm2.TPMRCIntegrity, "TPM_RC_INTEGRITY", "TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1)"},
		{tpm2.TPMCCSign, 0x98e, tpm2.TPMRCAuthFail, "TPM_RC_AUTH_FAIL", "TPM2_Sign: TPM_RC_AUTH_FAIL (0x98e, session 1)"},
		{tpm2.TPMCCSign, 0x8e, tpm2.TPMRCAuthFail, "TPM_RC_AUTH_FAIL", "TPM2_Sign: TPM_RC_AUTH_FAIL (0x8e)"},
		{tpm2.TPMCCRSADecrypt, 0x284, tpm2.TPMRCValue, "TPM_RC_VALUE", "TPM2_RSA_Decrypt: TPM_RC_VALUE (0x284, handle 2)"},
		{tpm2.TPMCCSign, 0x922, tpm2.TPMRCRetry, "TPM_RC_RETRY", "TPM2_Sign: TPM_RC_RETRY (0x922)"},
		{tpm2.TPMCCNVRead, 0x101, tpm2.TPMRCFailure, "TPM_RC_FAILURE", "TPM2_NV_Read: TPM_RC_FAILURE (0x101)"},
		{tpm2.TPMCCSign, 0xb0143, tpm2.TPMRCCommandCode, "TPM_RC_COMMAND_CODE", "TPM2_Sign: TPM_RC_COMMAND_CODE (0xb0143, from the resource manager)"},
		{tpm2.TPMCCTestParms, 0x1c1, tpm2.TPMRCAsymmetric, "TPM_RC_ASYMMETRIC", "TPM2_TestParms: TPM_RC_ASYMMETRIC (0x1c1, parameter 1)"},
		{0x20000001, 0x5ff, 0, "", "TPM command 0x20000001: unknown TPM error (0x5ff, parameter 5)"},
		{tpm2.TPMCCSign, 0x9bf, 0, "", "TPM2_Sign: unknown TPM error (0x9bf, session 1)"},
		{tpm2.TPMCCSign, 0xffffffff, 0, "", ""},
		{tpm2.TPMCCSign, 0x17f, 0, "", "TPM2_Sign: unknown TPM error (0x17f)"},
		{tpm2.TPMCCSign, 0x97f, 0, "", "TPM2_Sign: unknown TPM error (0x97f)"},
	} {
		err := error(&tpm20.Error{Command: c.command, Code: c.code})
		if c.is != 0 && !errors.Is(err, c.is) || errors.Is(err, tpm2.TPMRCSize) {
			t.Errorf("%v is not %v", err, c.is)
		}
		if got := err.(*tpm20.Error).Name(); got != c.name || c.text != "" && err.Error() != c.text {
			t.Errorf("%s, %v: want %s", got, err, c.text)
		}
	}
}
