package tpmkey

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// explain puts a refusal of the TPM in words. wrong is what TPM_RC_AUTH_FAIL and
// TPM_RC_BAD_AUTH mean for the command: one of the ErrWrong… sentinels.
func (c *chip20) explain(err, wrong error) error {
	var code *tpm20.Error
	var inWords *refusal
	if !errors.As(err, &code) || errors.As(err, &inWords) {
		return err
	}
	switch {
	case errors.Is(code, tpm2.TPMRCAuthFail), errors.Is(code, tpm2.TPMRCBadAuth):
		if wrong != nil {
			return &refusal{wrong, code.Name() + c.triesUsed(), err}
		}
	case errors.Is(code, tpm2.TPMRCLockout):
		return &refusal{ErrLockedOut, code.Name() + c.lockTime(), err}
	case c.classOf(code) == classLost:
		return &refusal{ErrUnloaded, "it is restarted, or the key flushed, as often as the key is loaded", err}
	}
	advice := adviceFor20(code)
	if advice == "" || code.Failed || strings.Contains(err.Error(), advice) { // it is said already
		return err
	}
	return fmt.Errorf("%s: %w", advice, err)
}

// explainParent puts a refusal of a parent, or of the hierarchy that makes it, in words.
func (c *chip20) explainParent(err error) error {
	return c.explain(err, ErrWrongSRKSecret)
}

// explainLoad puts a refusal to load a key in words.
func (c *chip20) explainLoad(err error) error {
	var code *tpm20.Error
	if !errors.As(err, &code) || c.classOf(err) != classRefused {
		return c.explain(err, ErrWrongSRKSecret)
	}
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return &refusal{ErrWrongTPM, "TPM_RC_INTEGRITY; it was made by another TPM, by this one before it was cleared, or under another parent (see -parent), or the file is damaged", err}
	case errors.Is(err, tpm2.TPMRCBinding):
		return &refusal{ErrWrongTPM, "TPM_RC_BINDING; the public and private parts do not belong together: the file is damaged", err}
	case isOneOf(code, badKey20):
		return &refusal{ErrWrongTPM, code.Name() + "; the file is damaged, or of a kind that this TPM does not load", err}
	}
	return c.explain(err, ErrWrongSRKSecret)
}

// badKey20 are the refusals of a public or private area that the TPM finds inconsistent.
var badKey20 = []tpm2.TPMRC{
	tpm2.TPMRCSize, tpm2.TPMRCValue, tpm2.TPMRCType, tpm2.TPMRCAsymmetric, tpm2.TPMRCCurve, tpm2.TPMRCKeySize,
	tpm2.TPMRCScheme, tpm2.TPMRCHash, tpm2.TPMRCAttributes, tpm2.TPMRCKDF, tpm2.TPMRCSymmetric, tpm2.TPMRCKey,
	tpm2.TPMRCInsufficient, tpm2.TPMRCSensitive, tpm2.TPMRCReservedBits, tpm2.TPMRCSelector, tpm2.TPMRCECCPoint, tpm2.TPMRCMode,
}

func isOneOf(err error, codes []tpm2.TPMRC) bool {
	return slices.ContainsFunc(codes, func(code tpm2.TPMRC) bool { return errors.Is(err, code) })
}
