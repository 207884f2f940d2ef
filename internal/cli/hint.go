package cli

import (
	"errors"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/tpmkey"
)

// hintFor advises on err, "" where it knows nothing better than the error's own
// text. args tell which flags the user has tried. Advice that an error brings
// along (Hint() string) comes first.
func hintFor(err error, args []string) string {
	var own interface{ Hint() string }
	if errors.As(err, &own) && own.Hint() != "" {
		return own.Hint()
	}
	given := func(flag string) bool { return hasFlag(args, flag) }
	if of20(err) {
		if hint := hintFor20(err, given); hint != "" {
			return hint
		}
	}
	switch {
	case errors.Is(err, tpmkey.ErrWrongSRKSecret) && !given("srk-pass"):
		return "this TPM was not set up with the well-known secret; try -srk-pass prompt, or -srk-pass pass: for an empty password"
	case errors.Is(err, tpmkey.ErrWrongSRKSecret):
		return "the SRK has another secret than -srk-pass says" + orUTF16
	case errors.Is(err, tpmkey.ErrWrongKeySecret):
		return "the key has another secret" + ifGiven(given("key-pass"), " than -key-pass says") + orUTF16
	case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
		return "the owner has another secret" + ifGiven(given("owner-pass"), " than -owner-pass says") + "; one that was never set is -owner-pass wellknown" + orUTF16
	case errors.Is(err, tpmkey.ErrLockedOut):
		return "wait, and try once with the right secret; tpmctl status shows the lockout without spending a try, tpmctl reset-lockout ends it with the owner's secret (TPM 2.0: the lockout secret)"
	case errors.Is(err, tpmkey.ErrWrongTPM):
		return "a key file works only with the TPM that made it, and no more once that was cleared; inspect the file with tpmctl inspect"
	case errors.Is(err, tpmkey.ErrNoParent):
		return "a TPM that was cleared has lost its parents, too; with the right -parent, a key file of this TPM works: tpmctl inspect shows what the file says, tpmctl status what the TPM keeps"
	case errors.Is(err, tpmkey.ErrNoKey):
		return "tpmctl status lists the keys that the TPM keeps, with their handles"
	case errors.Is(err, tpmkey.ErrWrongGeneration):
		return "tpmctl status shows this TPM and others of the machine, tpmctl inspect what the file is"
	case errors.Is(err, tpmkey.ErrPolicy):
		return "tpmctl inspect shows the policy; where firmware, boot loader or settings have changed since the key was made, undo that or make a new key"
	case errors.Is(err, tpmkey.ErrSecretNeeded):
		return "give the key's secret with -key-pass, the SRK's with -srk-pass"
	case errors.Is(err, tpmkey.ErrBusy):
		return "-wait 5m waits longer"
	case errors.Is(err, tpmkey.ErrNotOwned):
		return "take ownership first: tpmctl own"
	case errors.Is(err, tpmkey.ErrDisabled):
		return "tpmctl enable and tpmctl activate say what else they take, such as a restart; in the firmware's setup look under Security, TPM or Trusted Computing; a TPM 2.0 may be on again after a restart"
	case errors.Is(err, tpmkey.ErrPhysicalPresence):
		return "do it in the firmware's (BIOS) setup, under Security, TPM or Trusted Computing"
	case errors.Is(err, tpmkey.ErrRestartNeeded):
		return "restart the machine, or the software TPM, then run this again"
	}
	return ""
}

// orUTF16 ends the advice on a wrong secret that the user did give.
const orUTF16 = "; one set by tpm-tools -u or in a pop-up window needs utf16: in front (each wrong try brings the lockout nearer)"

func ifGiven(given bool, text string) string {
	if given {
		return text
	}
	return ""
}

// hasFlag reports whether a flag stands in args, with one dash or two.
func hasFlag(args []string, name string) bool {
	for _, arg := range args {
		if arg == "--" {
			return false
		}
		flag, _, _ := strings.Cut(arg, "=")
		if flag == "-"+name || flag == "--"+name {
			return true
		}
	}
	return false
}

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
