package tpmkey

import (
	"errors"
	"fmt"
	"time"

	"maclef/internal/tpm12"
)

// A refusal is a TPM's result code in words: what kind it is, for errors.Is,
// and what to do.
type refusal struct {
	kind   error // a sentinel of this package
	detail string
	cause  error
}

func (r *refusal) Error() string   { return fmt.Sprintf("%v (%s)", r.kind, r.detail) }
func (r *refusal) Unwrap() []error { return []error{r.kind, r.cause} } // errors.Is skips a nil cause

// What to do about a TPM that cannot be used as it is.
const (
	switchOnCure = "; enable and activate it with tpmctl enable and tpmctl activate, or in the firmware's (BIOS) menu"
	ownCure      = "take ownership first: tpmctl own"
)

// explain puts a refusal of the TPM in words. wrong is what TPM_AUTHFAIL means
// for the command: one of the ErrWrong… sentinels.
func (c *chip12) explain(err, wrong error) error {
	var refused *tpm12.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case tpm12.AuthFail:
		if wrong != nil {
			return &refusal{wrong, "TPM_AUTHFAIL" + c.triesUsed(), err}
		}
	case tpm12.DefendLockRunning:
		return &refusal{ErrLockedOut, "TPM_DEFEND_LOCK_RUNNING" + c.lockTime(), err}
	case tpm12.Disabled, tpm12.Deactivated:
		return &refusal{ErrDisabled, refused.Code.Error() + switchOnCure, err}
	case tpm12.NoSRK:
		return c.explainNoSRK(err)
	case tpm12.InvalidKeyHandle:
		return &refusal{ErrUnloaded, "it is restarted, or the key flushed, as often as the key is loaded", err}
	}
	if advice := adviceFor(refused.Code); advice != "" {
		return fmt.Errorf("%s: %w", advice, err)
	}
	return err
}

// explainLoad puts a refusal of LoadKey2 in words. A damaged file can answer
// TPM_AUTHFAIL as a wrong SRK secret does; only the count of wrong secrets, and
// what it was before, tells them apart.
func (c *chip12) explainLoad(err error, before *tpm12.DAInfo) error {
	switch {
	case errors.Is(err, tpm12.DecryptError):
		return &refusal{ErrWrongTPM, "TPM_DECRYPT_ERROR; it was made by another TPM, or by this one before it was cleared, or the file is damaged", err}
	case errors.Is(err, tpm12.AuthFail):
		if c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Count == before.Count {
			return &refusal{ErrWrongTPM, "TPM_AUTHFAIL, which the TPM does not count as a wrong secret: the file is damaged", err}
		}
	case errors.Is(err, tpm12.InvalidAuthHandle) && c.countedSince(before):
		// Only the TPM's first answer to the secret said so, and was changed on its way.
		return &refusal{ErrWrongSRKSecret, "the TPM has counted it" + c.triesUsed(), nil}
	case errors.Is(err, tpm12.InvalidKeyHandle): // what libtpms says for TPM_NOSRK
		return c.explainNoSRK(err)
	}
	var refused *tpm12.Error
	if errors.As(err, &refused) && badKey12[refused.Code] {
		return &refusal{ErrWrongTPM, refused.Code.Error() + "; the file is damaged, or of a kind that this TPM does not load", err}
	}
	return c.explain(err, ErrWrongSRKSecret)
}

// explainNoSRK says why there is no SRK to use.
func (c *chip12) explainNoSRK(err error) error {
	if notReady := c.ready(); notReady != nil {
		return notReady
	}
	return err
}

// badKey12 are the refusals of a key structure that the TPM finds inconsistent.
var badKey12 = map[tpm12.ResultCode]bool{
	tpm12.BadParameter: true, tpm12.InvalidKeyUsage: true, tpm12.BadKeyProperty: true,
	tpm12.BadScheme: true, tpm12.BadDataSize: true, tpm12.BadVersion: true,
}

// countedSince reports whether the TPM has counted a wrong secret since.
func (c *chip12) countedSince(before *tpm12.DAInfo) bool {
	return c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Count > before.Count
}

func known(info *tpm12.DAInfo) bool { return info != nil && info.Known }

// triesUsed says, after a wrong secret, how many the TPM has counted.
func (c *chip12) triesUsed() string {
	if c.readLockout() != nil || !known(c.lockout) {
		return ""
	}
	if c.lockout.Count > c.lockout.Threshold {
		return fmt.Sprintf(", and all %d tries are used", c.lockout.Threshold)
	}
	return fmt.Sprintf(", %d of %d tries used", c.lockout.Count, c.lockout.Threshold)
}

// lockTime says how long the TPM stays locked, where it tells.
func (c *chip12) lockTime() string {
	if c.readLockout() != nil || !known(c.lockout) || c.lockout.Seconds == 0 {
		return "; wait, and try once with the right secret"
	}
	return fmt.Sprintf("; wait %v from the last try",
		time.Duration(c.lockout.Seconds)*time.Second)
}
