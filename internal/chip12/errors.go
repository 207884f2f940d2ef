package chip12

import (
	"errors"
	"fmt"
	"time"

	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// explain adds an explanation to an error of the TPM. wrong is the error for TPM_AUTHFAIL: one
// of the ErrWrong… errors, or nil.
func (c *Chip) explain(err, wrong error) error {
	var refused *tpm12.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case tpm12.AuthFail:
		if wrong != nil {
			return c.wrongSecret(wrong, "TPM_AUTHFAIL", err)
		}
	case tpm12.DefendLockRunning:
		return chip.OfKind(chip.ErrLockedOut, "TPM_DEFEND_LOCK_RUNNING"+c.lockTime(), err)
	case tpm12.Disabled, tpm12.Deactivated:
		return chip.OfKind(chip.ErrDisabled, refused.Code.Error(), err)
	case tpm12.NoSRK:
		return c.explainNoSRK(err)
	case tpm12.WrongPCRValue:
		return chip.OfKind(chip.ErrPolicy, "TPM_WRONGPCRVAL; "+Cause(refused.Code), err)
	case tpm12.InvalidKeyHandle:
		return chip.OfKind(chip.ErrUnloaded, "it was restarted or the key was flushed, again after the key was reloaded", err)
	}
	if cause := Cause(refused.Code); cause != "" {
		return fmt.Errorf("%s: %w", cause, err)
	}
	return err
}

// explainLoad explains an error of TPM_LoadKey2. A damaged file can give TPM_AUTHFAIL, like a
// wrong SRK secret. Only the count of wrong secrets tells the two apart.
func (c *Chip) explainLoad(err error, before *tpm12.DAInfo) error {
	switch {
	case errors.Is(err, tpm12.DecryptError):
		return chip.OfKind(chip.ErrWrongTPM, "TPM_DECRYPT_ERROR; it was made by another TPM, or by this one before it was cleared, or the file is damaged", err)
	case errors.Is(err, tpm12.AuthFail):
		if c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Count == before.Count {
			return chip.OfKind(chip.ErrWrongTPM, "TPM_AUTHFAIL, which the TPM does not count as a wrong secret: the file is damaged", err)
		}
	case errors.Is(err, tpm12.InvalidAuthHandle) && c.countedSince(before):
		// The TPM answered that the secret is wrong, but the result code was altered on the way.
		return c.wrongSecret(chip.ErrWrongSRKSecret, "the TPM has counted it", nil)
	case errors.Is(err, tpm12.InvalidKeyHandle): // libtpms's code for TPM_NOSRK
		return c.explainNoSRK(err)
	}
	var refused *tpm12.Error
	if errors.As(err, &refused) && badKey[refused.Code] {
		return chip.OfKind(chip.ErrWrongTPM, refused.Code.Error()+"; the file is damaged, or of a kind that this TPM does not load", err)
	}
	return c.explain(err, chip.ErrWrongSRKSecret)
}

// explainNoSRK returns why there is no SRK.
func (c *Chip) explainNoSRK(err error) error {
	s, failed := c.State()
	switch {
	case failed != nil:
		return failed
	case s.Unusable != nil:
		return s.Unusable
	case !s.Owned:
		return chip.ErrNoSRK
	}
	return err
}

// badKey are the result codes for an inconsistent key structure.
var badKey = map[tpm12.ResultCode]bool{
	tpm12.BadParameter: true, tpm12.InvalidKeyUsage: true, tpm12.BadKeyProperty: true,
	tpm12.BadScheme: true, tpm12.BadDataSize: true, tpm12.BadVersion: true,
}

// countedSince reports whether the TPM has counted a wrong secret since before was read.
func (c *Chip) countedSince(before *tpm12.DAInfo) bool {
	return c.readLockout() == nil && known(before) && known(c.lockout) && c.lockout.Count > before.Count
}

func known(info *tpm12.DAInfo) bool { return info != nil && info.Known }

// wrongSecret returns the error of a wrong secret, with the TPM's count. It is an ErrLockedOut, too,
// if the secret locked the TPM.
func (c *Chip) wrongSecret(kind error, detail string, err error) error {
	if c.readLockout() != nil || !known(c.lockout) {
		return chip.OfKind(kind, detail, err)
	}
	if c.lockout.Count > c.lockout.Threshold {
		detail += fmt.Sprintf(", and all %d tries are used", c.lockout.Threshold)
	} else {
		detail += fmt.Sprintf(", %d of %d tries used", c.lockout.Count, c.lockout.Threshold)
	}
	if c.lockout.Locked {
		return chip.LastTry(kind, detail, c.lockTime(), err)
	}
	return chip.OfKind(kind, detail, err)
}

// lockTime returns a text that says how long the TPM stays locked, if it reports that.
func (c *Chip) lockTime() string {
	if c.readLockout() != nil || !known(c.lockout) || c.lockout.Seconds == 0 {
		return "; wait, and try once with the right secret"
	}
	return fmt.Sprintf("; wait %v from the last try",
		time.Duration(c.lockout.Seconds)*time.Second)
}

// Cause returns what causes a result code, "" if the code's name says it all. Package advice
// knows what to do about it.
func Cause(code tpm12.ResultCode) string { return causes[code] }

// causes has the cause of each code that users meet. explain has more specific texts for some.
var causes = map[tpm12.ResultCode]string{
	tpm12.Success:           "no error: the TPM did what it was asked",
	tpm12.AuthFail:          "a secret (of the SRK, the key or the owner) is wrong, or hashed in another encoding",
	tpm12.Auth2Fail:         "the second secret of the command is wrong, or hashed in another encoding",
	tpm12.BadIndex:          "the TPM has no PCR, or no area in its own storage (NV), of that number",
	tpm12.BadParameter:      "the TPM does not accept a parameter; the key is of another kind, or its file is damaged",
	tpm12.ClearDisabled:     "clearing is forbidden, by the owner or by the firmware until the next start",
	tpm12.Deactivated:       "the TPM is deactivated",
	tpm12.Disabled:          "the TPM is disabled",
	tpm12.DisabledCmd:       "the TPM does not accept this command in its present state; an owned TPM, for example, does not return its public endorsement key",
	tpm12.Fail:              "the operation failed, and the TPM gives no reason",
	tpm12.BadOrdinal:        "this TPM does not have the command, or the chip speaks another version of the specification",
	tpm12.InstallDisabled:   "taking ownership is forbidden in this TPM",
	tpm12.InvalidKeyHandle:  "the key is not loaded (any more): the TPM was restarted, or somebody flushed it",
	tpm12.InvalidPCRInfo:    "the PCRs are given in a form that the TPM does not take; the file may be damaged",
	tpm12.KeyNotFound:       "the key is not in the TPM; it may never have been loaded, or the TPM was cleared",
	tpm12.NoSpace:           "no room in the TPM for another key",
	tpm12.NoSRK:             "the TPM has no owner, so no storage root key",
	tpm12.NotSealedBlob:     "this is not data that the TPM has sealed, or it was changed since",
	tpm12.OwnerSet:          "the TPM has an owner already",
	tpm12.Resources:         "the TPM is out of room for keys or sessions",
	tpm12.TooManyContexts:   "the TPM has too many saved sessions",
	tpm12.NoContextSpace:    "the TPM has too many saved sessions",
	tpm12.ContextGap:        "a saved session is too old for the TPM's session counter",
	tpm12.Size:              "the TPM has no space to perform the operation",
	tpm12.WrongPCRValue:     "the key is bound to a state of this machine (PCRs) that is not today's; firmware, boot loader or kernel changed since it was made",
	tpm12.BadParamSize:      "the TPM got another number of parameter bytes than it expected; the key file may be damaged",
	tpm12.FailedSelfTest:    "the TPM failed its self-test, is in failure mode and refuses everything",
	tpm12.BadTag:            "the TPM does not know this form of command; it may be a TPM 2.0",
	tpm12.AuditFailDone:     "the TPM could not record in its memory that it did this",
	tpm12.IOError:           "an I/O error while something was transmitted to the TPM",
	tpm12.DecryptError:      "the TPM cannot decrypt this; it was made for another TPM, or for this one before it was cleared, or is damaged",
	tpm12.InvalidAuthHandle: "the authorization session is gone: the TPM was restarted, or another program ended it",
	tpm12.NoEndorsement:     "the TPM has no endorsement key",
	tpm12.InvalidKeyUsage:   "the key is not made for this",
	tpm12.InvalidPostInit:   "the TPM was not started, or started twice",
	tpm12.InappropriateSig:  "the key's signature scheme cannot sign this",
	tpm12.BadKeyProperty:    "this TPM does not support keys of this size or kind",
	tpm12.BadScheme:         "the key's scheme does not fit the operation",
	tpm12.BadDataSize:       "the data, or a key in them, have the wrong length; the file may be damaged",
	tpm12.BadMode:           "the TPM does not know the requested mode or capability; older chips lack some of them",
	tpm12.BadPresence:       "this needs physical presence, and the firmware does not let programs assert it",
	tpm12.BadVersion:        "the decrypted data has no header of this TPM's version",
	tpm12.NotFIPS:           "the TPM runs in FIPS mode, which forbids this; keys then have 1024 bits or more, and a secret",
	tpm12.KeyNotSupported:   "the wrong operation to load a key from the TPM's own storage (NV)",
	tpm12.AuthConflict:      "loading this key from the TPM's own storage (NV) takes both the owner's secret and the key's",
	tpm12.AreaLocked:        "that area of the TPM's own storage (NV) is locked and cannot be written",
	tpm12.BadLocality:       "this may only be done from another locality, such as the firmware's; a key may be bound to one",
	tpm12.InvalidStructure:  "the TPM cannot read a structure that it was given; the file may be damaged",
	tpm12.KeyOwnerControl:   "the owner keeps this key in the TPM; only the owner can remove it",
	tpm12.MaxNVWrites:       "a TPM without an owner takes 64 writes to its storage",
	tpm12.OwnerControl:      "a key that only the owner may remove was to be saved outside the TPM (its context), which is not allowed",
	tpm12.Retry:             "the TPM is busy",
	tpm12.NeedsSelfTest:     "the TPM wants to test itself first",
	tpm12.DoingSelfTest:     "the TPM is testing itself",
	tpm12.DefendLockRunning: "the TPM refuses all secrets for a while, after too many wrong ones",
}
