package cli

import (
	"errors"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/tpmkey"
)

// of20 reports whether a TPM 2.0 has said what is wrong.
func of20(err error) bool {
	var refused *tpm20.Error
	return errors.As(err, &refused)
}

// hintFor20 is hintFor where the same error means another thing on a TPM 2.0.
func hintFor20(err error, given func(flag string) bool) string {
	switch {
	case errors.Is(err, tpmkey.ErrWrongSRKSecret) && !given("srk-pass"):
		return "the key's parent, or the hierarchy that makes it, has a secret; try -srk-pass prompt"
	case errors.Is(err, tpmkey.ErrWrongSRKSecret):
		return "the key's parent, or the hierarchy that makes it, has another secret than -srk-pass says"
	case errors.Is(err, tpmkey.ErrWrongKeySecret):
		return "the key has another secret" + ifGiven(given("key-pass"), " than -key-pass says") + "; see tpmctl status before the next try"
	case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
		return "the lockout hierarchy has another secret" + ifGiven(given("owner-pass"), " than -owner-pass says")
	case errors.Is(err, tpmkey.ErrWrongTPM) && !given("parent"):
		return "a key file works only with the TPM that made it, and no more once that was cleared; tpmctl inspect shows what the file says of its parent, -parent names another"
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCSessionMemory):
		return "tpmctl status shows what is loaded, tpmctl flush frees what killed programs left; use /dev/tpmrm0 where there is one"
	case errors.Is(err, tpm2.TPMRCFailure):
		return "a software TPM says so when its state cannot be written: see that its disk is not full. Else switch the machine off and on again; if it stays, the chip is broken"
	}
	return ""
}
