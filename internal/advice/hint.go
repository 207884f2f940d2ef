// Package advice says what to do about an error, in terms of this project's commands and
// flags. The commands print it as "hint: …". The libraries say what is wrong and name no
// command or flag.
package advice

import (
	"cmp"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// Hint returns what to do about err; empty if the error itself says it. given reports
// whether the user has set a flag, which is named without dashes.
func Hint(err error, given func(flag string) bool) string {
	var refused *tpm20.Error
	hint := ""
	if errors.As(err, &refused) {
		hint = hint20(err, given)
	}
	if hint = cmp.Or(hint, hintSecret(err, given), hintKey(err), hintTPM(err), hintFile(err), codeAdvice(err)); isLastTry(err) {
		hint += "; the TPM is locked out now: " + endLockout
	}
	return hint
}

// isLastTry reports whether a wrong secret has locked the TPM.
func isLastTry(err error) bool {
	return errors.Is(err, tpmkey.ErrLockedOut) && slices.ContainsFunc([]error{tpmkey.ErrWrongSRKSecret, tpmkey.ErrWrongKeySecret, tpmkey.ErrWrongOwnerSecret, tpmkey.ErrSecretNeeded},
		func(kind error) bool { return errors.Is(err, kind) })
}

// endLockout says how a lockout ends.
const endLockout = "tpmctl status shows the lockout without spending a try, tpmctl reset-lockout ends it with the owner's secret (TPM 2.0: the lockout secret)"

// orUTF16 is for a wrong secret of a TPM 1.2 that the user gave.
const orUTF16 = "; one set by tpm-tools -u or in a pop-up window needs utf16: in front"

// orNone says what to do if no secret was ever set. It is empty if that is what was tried.
func orNone(err error, do string) string {
	return ifGiven(!errors.Is(err, chip.ErrWasDefault), "; if none was ever set, "+do)
}

// wrongPolicySecret is the advice about a secret of another entity than the key.
const wrongPolicySecret = "give the secret that the error names with -key-pass, not the key's own"

func hintSecret(err error, given func(flag string) bool) string {
	switch {
	case errors.Is(err, tpmkey.ErrWrongSRKSecret) && !given("srk-pass"):
		return "this TPM was not set up with the well-known secret; try -srk-pass prompt, or -srk-pass pass: for an empty password"
	case errors.Is(err, tpmkey.ErrWrongSRKSecret):
		return "the SRK has another secret than -srk-pass says" + orNone(err, "leave -srk-pass out") + orUTF16 + nextTry(err)
	case errors.Is(err, chip.ErrWrongPolicySecret):
		return wrongPolicySecret
	case errors.Is(err, tpmkey.ErrWrongKeySecret):
		return subject(err) + " has another secret" + ifGiven(given("key-pass"), " than -key-pass says") + orUTF16 + nextTry(err)
	case errors.Is(err, tpmkey.ErrWrongOwnerSecret):
		return "the owner has another secret" + ifGiven(given("owner-pass"), " than -owner-pass says") + orNone(err, "-owner-pass wellknown") + orUTF16 + nextTry(err)
	case errors.Is(err, tpmkey.ErrLockedOut):
		return "wait, and try once with the right secret; " + endLockout
	}
	return ""
}

// subject names what has the key secret that was wrong.
func subject(err error) string {
	if errors.Is(err, chip.ErrWrongSealedSecret) {
		return "the sealed data"
	}
	return "the key"
}

func ifGiven(given bool, text string) string {
	if given {
		return text
	}
	return ""
}

// hintTPM is for errors about the TPM's state, or about what it cannot do.
func hintTPM(err error) string {
	switch {
	case errors.Is(err, tpmkey.ErrSecretNeeded):
		return "give the key's secret, or the one that its policy asks for, with -key-pass, the SRK's with -srk-pass"
	case errors.Is(err, tpmkey.ErrBusy):
		return "-wait 5m waits longer"
	case errors.Is(err, transport.ErrNoDevice), errors.Is(err, transport.ErrUnknownName):
		return "-tpm NAME or $TPMKEY_TPM names the TPM; -tpm emulator2 starts a software TPM for trying out"
	case errors.Is(err, tpmkey.ErrNotOwned):
		return "take ownership first: tpmctl own"
	case errors.Is(err, chip.ErrOwned):
		return "to start again, clear it (tpmctl clear), which makes every key file of it useless"
	case errors.Is(err, tpmkey.ErrDisabled):
		return "enable and activate it with tpmctl enable and tpmctl activate, which say what else is needed, such as a restart, or in the firmware's (BIOS) setup, under Security, TPM or Trusted Computing; a TPM 2.0 may be on again after a restart"
	case errors.Is(err, tpmkey.ErrPhysicalPresence):
		return "do it in the firmware's (BIOS) setup, under Security, TPM or Trusted Computing"
	}
	return ""
}

// hintKey is for errors about a key's kind or origin.
func hintKey(err error) string {
	switch {
	case errors.Is(err, chip.ErrEnded):
		return "make a new key under another parent: keygen without -parent null (for sealed data: seal it again)"
	case errors.Is(err, tpmkey.ErrMovableParent):
		return "if you trust whoever made the parent, give -movable-parent, too; tpmctl inspect handle:0x… describes it"
	case errors.Is(err, tpmkey.ErrWrongTPM):
		return "a key file works only with the TPM that made it, and no more once that was cleared; inspect the file with tpmctl inspect"
	case errors.Is(err, tpmkey.ErrNoParent):
		return "a TPM that was cleared has lost its parents, too; if only this one was removed, it may have been the owner's primary key, which -parent owner makes again; tpmctl inspect shows what the file says, tpmctl status what the TPM keeps"
	case errors.Is(err, tpmkey.ErrNoKey):
		return "tpmctl status lists the keys that the TPM keeps, with their handles"
	case errors.Is(err, tpmkey.ErrWrongGeneration):
		return "name the other TPM with -tpm, or make a new key with keygen; tpmctl status shows this TPM and others of the machine, tpmctl inspect what the file is"
	case errors.Is(err, chip.ErrUnknownPolicy):
		return "say the steps with -policy, in the order in which it was made with them, as in -policy pcr:sha256:7+auth: pcr:… for PCRs as they are now, auth for its secret, command:sign for one command"
	case errors.Is(err, chip.ErrOtherPolicy):
		return "give -policy the steps as they were when it was made, in that order; where firmware, boot loader or settings have changed since then, undo that; tpmctl inspect shows the digest to meet"
	case errors.Is(err, chip.ErrPolicySecret):
		return "give the secret that it asks for with -key-pass"
	case errors.Is(err, tpmkey.ErrPolicy):
		return "tpmctl inspect shows the policy; where firmware, boot loader or settings have changed since the key was made, undo that or make a new key (for sealed data: seal it again)"
	case errors.Is(err, chip.ErrKeyLimits):
		return "tpmctl inspect says what the key is for; keygen makes keys that sign and decrypt by every scheme"
	case errors.Is(err, chip.ErrNotWrappable):
		return "make a new key with keygen"
	}
	return ""
}

// hintFile is for files that are not key files.
func hintFile(err error) string {
	var other *blob.NotKeyError
	switch {
	case !errors.As(err, &other):
		return ""
	case other.Half != blob.NoHalf:
		return "call the two NAME.pub and NAME.priv, or make one of them with tpm2_encodeobject"
	case other.PrivateKey:
		return "wrap it with keygen -w"
	}
	return "keygen makes a new key, keygen -w wraps an RSA or ECDSA key that exists in software"
}

// nextTry ends the advice about a wrong secret, if the TPM counts it and there is another try.
func nextTry(err error) string {
	return ifGiven(!errors.Is(err, tpm2.TPMRCBadAuth) && !errors.Is(err, tpmkey.ErrLockedOut), "; see tpmctl status before the next try")
}

// hint20 is for errors that need other advice if a TPM 2.0 returned them.
func hint20(err error, given func(flag string) bool) string {
	switch {
	case errors.Is(err, tpmkey.ErrWrongSRKSecret) && !given("srk-pass"):
		return "the key's parent, or the hierarchy that makes it, has a secret; try -srk-pass prompt" +
			ifGiven(makesParent(err) && !given("parent"), ", or, if the TPM keeps the parent (see tpmctl status), -parent 0x81…")
	case errors.Is(err, tpmkey.ErrWrongSRKSecret):
		return "the key's parent, or the hierarchy that makes it, has another secret than -srk-pass says" + orNone(err, "leave -srk-pass out") +
			ifGiven(makesParent(err) && !given("parent"), "; if it is that of a parent which the TPM keeps (see tpmctl status), give -parent 0x81…, too") + nextTry(err)
	case errors.Is(err, chip.ErrWrongPolicySecret):
		return wrongPolicySecret
	case errors.Is(err, chip.ErrHasSecret) && !given("key-pass"):
		return "try -key-pass prompt, which asks for the key's secret; tpm2_encodeobject 5.4 writes such files" + nextTry(err)
	case errors.Is(err, tpmkey.ErrWrongKeySecret):
		return subject(err) + " has another secret" + ifGiven(given("key-pass"), " than -key-pass says") + orNone(err, "-key-pass wellknown") + nextTry(err)
	case errors.Is(err, tpmkey.ErrWrongTPM) && !errors.Is(err, chip.ErrEnded) && !given("parent"):
		return "a key file works only with the TPM that made it, and no more once that was cleared; tpmctl inspect shows what the file says of its parent, -parent names another"
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCSessionMemory):
		return "tpmctl status shows what is loaded, tpmctl flush frees what killed programs left; use /dev/tpmrm0 where there is one"
	case errors.Is(err, tpmkey.ErrWrongTPM), errors.Is(err, tpmkey.ErrNoParent):
		return hintKey(err)
	case errors.Is(err, tpm2.TPMRCFailure):
		return hintFailure(err)
	}
	return ""
}

// makesParent reports whether a TPM 2.0 was to create a primary key of a hierarchy.
func makesParent(err error) bool {
	var refused *tpm20.Error
	return errors.As(err, &refused) && refused.Command == tpm2.TPMCCCreatePrimary
}

// hintFailure is for TPM_RC_FAILURE, which some TPMs also return when they work on. For
// TPM2_RSA_Decrypt it is not known which.
func hintFailure(err error) string {
	var refused *tpm20.Error
	if errors.As(err, &refused) && !refused.Failed && refused.Command != tpm2.TPMCCRSADecrypt {
		return "try again; tpmctl status shows whether the TPM works"
	}
	return "a software TPM returns this if it cannot write its state: check that its disk is not full. Otherwise switch the machine off and on again; if the error stays, the chip is broken"
}
