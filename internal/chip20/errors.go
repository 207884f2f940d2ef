package chip20

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// explain puts a refusal of the TPM in words. wrong is what TPM_RC_AUTH_FAIL and
// TPM_RC_BAD_AUTH mean for the command: one of the ErrWrong… sentinels.
func (c *Chip) explain(err, wrong error) error {
	var code *tpm20.Error
	var inWords *chip.KindError
	if !errors.As(err, &code) || errors.As(err, &inWords) {
		return err
	}
	switch {
	case errors.Is(code, tpm2.TPMRCAuthFail), errors.Is(code, tpm2.TPMRCBadAuth):
		if wrong != nil {
			return chip.OfKind(wrong, code.Name()+c.triesUsed(), err)
		}
	case errors.Is(code, tpm2.TPMRCLockout):
		return chip.OfKind(chip.ErrLockedOut, code.Name()+c.lockTime(), err)
	case c.ClassOf(code) == chip.ClassLost:
		return chip.OfKind(chip.ErrUnloaded, "it is restarted, or the key flushed, as often as the key is loaded", err)
	}
	advice := adviceFor(code)
	if advice == "" || code.Failed || strings.Contains(err.Error(), advice) { // it is said already
		return err
	}
	return fmt.Errorf("%s: %w", advice, err)
}

// explainParent puts a refusal of a parent, or of the hierarchy that makes it, in words.
func (c *Chip) explainParent(err error) error {
	return c.explain(err, chip.ErrWrongSRKSecret)
}

// explainLoad puts a refusal to load a key in words.
func (c *Chip) explainLoad(err error) error {
	var code *tpm20.Error
	if !errors.As(err, &code) || c.ClassOf(err) != chip.ClassRefused {
		return c.explain(err, chip.ErrWrongSRKSecret)
	}
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return chip.OfKind(chip.ErrWrongTPM, "TPM_RC_INTEGRITY; it was made by another TPM, by this one before it was cleared, or under another parent (see -parent), or the file is damaged", err)
	case errors.Is(err, tpm2.TPMRCBinding):
		return chip.OfKind(chip.ErrWrongTPM, "TPM_RC_BINDING; the public and private parts do not belong together: the file is damaged", err)
	case isOneOf(code, badKey):
		return chip.OfKind(chip.ErrWrongTPM, code.Name()+"; the file is damaged, or of a kind that this TPM does not load", err)
	}
	return c.explain(err, chip.ErrWrongSRKSecret)
}

// badKey are the refusals of a public or private area that the TPM finds inconsistent.
var badKey = []tpm2.TPMRC{
	tpm2.TPMRCSize, tpm2.TPMRCValue, tpm2.TPMRCType, tpm2.TPMRCAsymmetric, tpm2.TPMRCCurve, tpm2.TPMRCKeySize,
	tpm2.TPMRCScheme, tpm2.TPMRCHash, tpm2.TPMRCAttributes, tpm2.TPMRCKDF, tpm2.TPMRCSymmetric, tpm2.TPMRCKey,
	tpm2.TPMRCInsufficient, tpm2.TPMRCSensitive, tpm2.TPMRCReservedBits, tpm2.TPMRCSelector, tpm2.TPMRCECCPoint, tpm2.TPMRCMode,
}

func isOneOf(err error, codes []tpm2.TPMRC) bool {
	return slices.ContainsFunc(codes, func(code tpm2.TPMRC) bool { return errors.Is(err, code) })
}

// advice has a cause and a cure for each result code of a TPM 2.0 that people meet.
// TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
var advice = map[tpm2.TPMRC]string{
	tpm2.TPMRCAuthFail:        "a secret is wrong; each try brings the lockout nearer, so find out what it is before the next",
	tpm2.TPMRCBadAuth:         "a secret is wrong, which the TPM does not count",
	tpm2.TPMRCLockout:         "too many wrong secrets; wait until tries come back, or end it with the lockout secret (tpmctl reset-lockout)",
	tpm2.TPMRCIntegrity:       "the key was made by another TPM, by this one before it was cleared, or under another parent, or its file is damaged",
	tpm2.TPMRCBinding:         "the public and private parts do not belong together: the key file is damaged",
	tpm2.TPMRCInitialize:      "nobody has started the TPM since its power came back; open it once with tpmctl status",
	tpm2.TPMRCFailure:         "the TPM has failed: restart the machine; libtpms says so, too, of a ciphertext with bad padding",
	tpm2.TPMRCObjectMemory:    "all places for keys are taken; tpmctl flush frees those that killed programs left, and /dev/tpmrm0 has no such limit",
	tpm2.TPMRCSessionMemory:   "all places for sessions are taken; tpmctl flush frees those that killed programs left",
	tpm2.TPMRCRetry:           "the TPM is busy with itself; try again",
	tpm2.TPMRCTesting:         "the TPM is testing itself; try again",
	tpm2.TPMRCHierarchy:       "the hierarchy is switched off until the TPM starts anew; see the firmware's (BIOS) menu",
	tpm2.TPMRCDisabled:        "the command is switched off in this TPM",
	tpm2.TPMRCReferenceH0:     "the key is not loaded any more: the TPM was restarted, or somebody flushed it",
	tpm2.TPMRCReferenceS0:     "the session is not there any more: the TPM was restarted, or somebody flushed it",
	tpm2.TPMRCPolicyFail:      "the key's policy is not met",
	tpm2.TPMRCPCRChanged:      "a PCR changed while the policy was being checked; try again",
	tpm2.TPMRCCommandCode:     "this TPM does not have the command",
	tpm2.TPMRCCurve:           "this TPM does not have the curve; tpmctl status lists what it has",
	tpm2.TPMRCKeySize:         "this TPM does not have keys of that size; tpmctl status lists what it has",
	tpm2.TPMRCHash:            "this TPM does not have the hash; tpmctl status lists what it has",
	tpm2.TPMRCScheme:          "the key was made for another scheme",
	tpm2.TPMRCAttributes:      "the key's attributes do not allow it",
	tpm2.TPMRCAuthUnavailable: "the key can be used by its policy only, and the file has none",
	tpm2.TPMRCNVRate:          "the TPM writes its memory no faster, to protect it from wear; wait and try again",
	tpm2.TPMRCNVUnavailable:   "the TPM cannot write its memory for the moment; try again",
	tpm2.TPMRCUpgrade:         "the TPM waits for the rest of a firmware upgrade",
	tpm2.TPMRCPP:              "this needs physical presence; use the firmware's (BIOS) menu",
	tpm2.TPMRCReboot:          "the TPM must start anew first: restart the machine",
	tpm2.TPMRCExpired:         "the policy's time is over, or what signs it is too old",
	tpm2.TPMRCPolicyCC:        "the key's policy does not allow this operation",
	tpm2.TPMRCLocality:        "the key's policy allows this only from another locality, such as the firmware's",
	tpm2.TPMRCAuthType:        "the key takes another kind of authorization: its policy, where a secret was given, or the other way round",
	tpm2.TPMRCNeedsTest:       "the TPM wants to test itself first; restart the machine, whose kernel then has it do so",
	tpm2.TPMRCContextGap:      "a saved session is so old that the TPM counts no further; tpmctl flush -saved frees it",
	tpm2.TPMRCSessionHandles:  "the TPM knows no more saved sessions; tpmctl flush -saved frees them",
	tpm2.TPMRCECCPoint:        "what should be a public key is no point of the curve",
	tpm2.TPMRCMemory:          "the TPM is out of memory; stop what keeps keys and sessions in it (tcsd, tpm2-abrmd), or free them with tpmctl flush",
}

// Explain returns the name that the specification gives a response code of a TPM 2.0,
// such as "TPM_RC_AUTH_FAIL, session 1", empty for a code without one, and what usually
// causes it and what to do, empty where the specification says no more than the name.
func Explain(code uint32) (name, advice string) {
	err := &tpm20.Error{Code: tpm2.TPMRC(code)}
	if code&(rcVer1|rcFmt1) == 0 { // a TPM 1.2's
		return "", ""
	}
	if name = err.Name(); name == "" {
		return "", ""
	}
	return name + err.About(), adviceFor(err)
}

// The bits that response codes of TPM 2.0 have. TPM 2.0 Library Part 2, section 6.6.2
// (Response Code Formats).
const (
	rcFmt1 = 0x080
	rcVer1 = 0x100
	rcWarn = 0x900
)

// ResultCodes are the response codes of a TPM 2.0 that have a name, without the
// number of the parameter, handle or session that some are about.
func ResultCodes() []uint32 {
	var all []uint32
	for _, group := range []struct{ first, size uint32 }{{rcFmt1, 0x40}, {rcVer1, 0x80}, {rcWarn, 0x80}} {
		for code := group.first; code < group.first+group.size; code++ {
			if name, _ := Explain(code); name != "" {
				all = append(all, code)
			}
		}
	}
	return all
}

// adviceFor returns cause and cure of a refusal, "" where there is nothing to say
// that its name does not.
func adviceFor(err *tpm20.Error) string {
	for code, advice := range advice {
		if isOneOf(err, []tpm2.TPMRC{code}) {
			return advice
		}
	}
	return ""
}
