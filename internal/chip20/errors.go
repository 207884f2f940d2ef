package chip20

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// explain adds an explanation to an error of the TPM. wrong is the error for TPM_RC_AUTH_FAIL
// and TPM_RC_BAD_AUTH: one of the ErrWrong… errors, or nil.
func (c *Chip) explain(err, wrong error) error {
	var code *tpm20.Error
	var explained *chip.KindError
	var unknown *tpm20.UnknownObject
	if errors.As(err, &unknown) && !errors.Is(err, chip.ErrNotSupported) {
		return fmt.Errorf("%w: %w", chip.ErrNotSupported, err)
	}
	if !errors.As(err, &code) || errors.As(err, &explained) {
		return err
	}
	switch {
	case errors.Is(code, tpm2.TPMRCAuthFail), errors.Is(code, tpm2.TPMRCBadAuth):
		if wrong != nil {
			return c.wrongSecret(wrong, code, err)
		}
	case errors.Is(code, tpm2.TPMRCLockout):
		return chip.OfKind(chip.ErrLockedOut, code.Name()+c.lockTime(), err)
	case c.ClassOf(code) == chip.ClassLost:
		return chip.OfKind(chip.ErrUnloaded, "it was restarted or the key was flushed, again after the key was reloaded", err)
	}
	cause := Cause(code)
	if errors.Is(code, tpm2.TPMRCFailure) && !code.Failed && code.Command != tpm2.TPMCCRSADecrypt {
		cause = "the TPM could not do this, and is not in failure mode"
	}
	if cause == "" || code.Failed || strings.Contains(err.Error(), cause) { // err has the cause already
		return err
	}
	return fmt.Errorf("%s: %w", cause, err)
}

// secretOfPolicy says whose secret the policy of a parent asks for, if the TPM refused that one.
// Errors about the policy of a key are explained before.
func secretOfPolicy(err error) string {
	var wrong *policy.WrongSecret
	var unmet *policy.Unmet
	switch {
	case errors.As(err, &wrong):
		return "; the parent's policy asks for the secret of " + wrong.Owner
	case errors.As(err, &unmet):
		return "; the parent's policy: " + unmet.Why
	}
	return ""
}

// explainParent explains an error about a parent, or about its hierarchy.
func (c *Chip) explainParent(err error) error {
	return c.explain(err, chip.ErrWrongSRKSecret)
}

// An explanation says what the error of one of several possible parents is about. Of several
// errors, the one with the greatest explanation is told.
type explanation int

const (
	ofNothing  explanation = iota // another parent: the TPM cannot create it
	ofNoParent                    // the key is not under the parent, or is damaged
	ofSecret                      // of the parent, or of its hierarchy
	ofKey                         // no other parent would help
	ofLockout                     // the TPM would not use the parent, whether or not it is the key's
)

// explains returns what an error of loadUnder is about.
func explains(err error) explanation {
	var code *tpm20.Error
	switch {
	case errors.Is(err, chip.ErrLockedOut), errors.Is(err, tpm2.TPMRCLockout):
		return ofLockout
	case errors.Is(err, chip.ErrWrongSRKSecret), errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return ofSecret
	case !errors.As(err, &code):
		return ofNothing
	case errors.Is(code, tpm2.TPMRCIntegrity), isBadSeed(code):
		return ofNoParent
	case code.Command == tpm2.TPMCCLoad, code.Command == tpm2.TPMCCImport:
		return ofKey
	}
	return ofNothing
}

// better returns the error that explains more; the first one may be nil.
func better(first, second error) error {
	if first == nil || explains(second) > explains(first) {
		return second
	}
	return first
}

// isBadSeed reports whether TPM2_Import could not decrypt the seed of a duplicate, its parameter 4.
// For a parent that is an RSA key, libtpms answers TPM_RC_FAILURE, which does not mean failure
// mode. TPM 2.0 Library Part 3, section 13.3 (TPM2_Import).
func isBadSeed(code *tpm20.Error) bool {
	var about tpm2.TPMFmt1Error
	if code.Command != tpm2.TPMCCImport {
		return false
	}
	if errors.As(code, &about) {
		is, parameter := about.Parameter()
		return is && parameter == 4
	}
	return errors.Is(code, tpm2.TPMRCFailure) && !code.Failed
}

// explainLoad explains an error of loading a key.
func (c *Chip) explainLoad(t *blob.TSS2, err error) error {
	var code *tpm20.Error
	var explained *chip.KindError
	if !errors.As(err, &code) || errors.As(err, &explained) || c.ClassOf(err) != chip.ClassRefused {
		return c.explainParent(err)
	}
	switch {
	case explains(err) == ofNoParent && parentIn(t).handle == tpm2.TPMRHNull:
		return chip.OfKind(chip.ErrEnded, code.Name()+"; its parent is of the null hierarchy, whose keys end when the TPM restarts; else the file is damaged, or of another TPM", err)
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return chip.OfKind(chip.ErrWrongTPM, "TPM_RC_INTEGRITY; it was made by another TPM, by this one before it was cleared, or under another parent, or the file is damaged", err)
	case isBadSeed(code):
		return chip.OfKind(chip.ErrWrongTPM, code.Name()+" of TPM2_Import; its encrypted seed is not for this parent: the file is for another TPM or another parent, or it is damaged", err)
	case errors.Is(err, tpm2.TPMRCBinding):
		return chip.OfKind(chip.ErrWrongTPM, "TPM_RC_BINDING; the public and private parts do not belong together: the file is damaged", err)
	case isOneOf(code, badKey):
		return chip.OfKind(chip.ErrWrongTPM, code.Name()+"; the file is damaged, or of a kind that this TPM does not load", err)
	}
	return c.explainParent(err)
}

// badKey are the response codes for an inconsistent public or private area.
var badKey = []tpm2.TPMRC{
	tpm2.TPMRCSize, tpm2.TPMRCValue, tpm2.TPMRCType, tpm2.TPMRCAsymmetric, tpm2.TPMRCCurve, tpm2.TPMRCKeySize,
	tpm2.TPMRCScheme, tpm2.TPMRCHash, tpm2.TPMRCAttributes, tpm2.TPMRCKDF, tpm2.TPMRCSymmetric, tpm2.TPMRCKey,
	tpm2.TPMRCInsufficient, tpm2.TPMRCSensitive, tpm2.TPMRCReservedBits, tpm2.TPMRCSelector, tpm2.TPMRCECCPoint, tpm2.TPMRCMode,
}

func isOneOf(err error, codes []tpm2.TPMRC) bool {
	return slices.ContainsFunc(codes, func(code tpm2.TPMRC) bool { return errors.Is(err, code) })
}

// causes has the cause of each response code that users meet. TPM 2.0 Library Part 2, section 6.6
// (TPM_RC).
var causes = map[tpm2.TPMRC]string{
	tpm2.TPMRCAuthFail:        "a secret is wrong",
	tpm2.TPMRCBadAuth:         "a secret is wrong, which the TPM does not count",
	tpm2.TPMRCLockout:         "too many wrong secrets",
	tpm2.TPMRCIntegrity:       "the key was made by another TPM, by this one before it was cleared, or under another parent, or its file is damaged",
	tpm2.TPMRCBinding:         "the public and private parts do not belong together: the key file is damaged",
	tpm2.TPMRCInitialize:      "the TPM was not started after a reset",
	tpm2.TPMRCFailure:         "the TPM has failed",
	tpm2.TPMRCObjectMemory:    "no free slot for a key",
	tpm2.TPMRCSessionMemory:   "no free slot for a session",
	tpm2.TPMRCRetry:           "the TPM is busy",
	tpm2.TPMRCTesting:         "the TPM is testing itself",
	tpm2.TPMRCHierarchy:       "the hierarchy is switched off until the TPM restarts",
	tpm2.TPMRCDisabled:        "the command is disabled in this TPM",
	tpm2.TPMRCReferenceH0:     "the key is not loaded any more: the TPM was restarted, or somebody flushed it",
	tpm2.TPMRCReferenceS0:     "the session does not exist any more: the TPM was restarted, or somebody flushed it",
	tpm2.TPMRCPolicyFail:      "the key's policy is not met",
	tpm2.TPMRCPCRChanged:      "a PCR changed while the policy was being checked",
	tpm2.TPMRCCommandCode:     "this TPM does not have the command",
	tpm2.TPMRCCurve:           "this TPM does not have the curve",
	tpm2.TPMRCKeySize:         "this TPM does not have keys of that size",
	tpm2.TPMRCHash:            "this TPM does not have the hash",
	tpm2.TPMRCScheme:          "the key was made for another scheme",
	tpm2.TPMRCAttributes:      "the key's attributes do not allow it",
	tpm2.TPMRCAuthUnavailable: "the key can be used by its policy only, and the file has none",
	tpm2.TPMRCNVRate:          "the TPM limits how often it writes its memory, to protect it from wear",
	tpm2.TPMRCNVUnavailable:   "the TPM cannot write its memory at present",
	tpm2.TPMRCUpgrade:         "the TPM waits for the rest of a firmware upgrade",
	tpm2.TPMRCPP:              "this needs physical presence",
	tpm2.TPMRCReboot:          "the TPM must be restarted first",
	tpm2.TPMRCExpired:         "the policy, or its signature, has expired",
	tpm2.TPMRCPolicyCC:        "the key's policy does not allow this operation",
	tpm2.TPMRCLocality:        "the key's policy allows this only from another locality, such as the firmware's",
	tpm2.TPMRCAuthType:        "the key needs another kind of authorization: its policy instead of a secret, or a secret instead of its policy",
	tpm2.TPMRCNeedsTest:       "the TPM wants to test itself first",
	tpm2.TPMRCContextGap:      "a saved session is too old for the TPM's session counter",
	tpm2.TPMRCSessionHandles:  "the TPM has too many saved sessions",
	tpm2.TPMRCECCPoint:        "the public key is not a point of the curve",
	tpm2.TPMRCMemory:          "the TPM is out of memory",
}

// Cause returns what causes an error, "" if the code's name says it all. Package advice knows
// what to do about it.
func Cause(err *tpm20.Error) string {
	for code, cause := range causes {
		if errors.Is(err, code) {
			return cause
		}
	}
	return ""
}
