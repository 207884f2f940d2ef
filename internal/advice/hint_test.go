package advice

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

func TestHint(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		given string // flag
		want  string
	}{
		{"SRK, default secret", tpmkey.ErrWrongSRKSecret, "", "well-known secret; try -srk-pass prompt"},
		{"SRK, secret given", tpmkey.ErrWrongSRKSecret, "srk-pass", "another secret than -srk-pass says; if none was ever set, leave -srk-pass out; one set"},
		{"SRK, last try", errors.Join(tpmkey.ErrWrongSRKSecret, tpmkey.ErrLockedOut), "srk-pass", "needs utf16: in front; the TPM is locked out now: tpmctl status shows"},
		{"key, prompted", tpmkey.ErrWrongKeySecret, "", "the key has another secret; one set by tpm-tools -u"},
		{"key, given", tpmkey.ErrWrongKeySecret, "key-pass", "than -key-pass says; one set"},
		{"sealed data, given", chip.ErrWrongSealedSecret, "key-pass", "the sealed data has another secret than -key-pass says; one set"},
		{"sealed data of a TPM 2.0", refused(chip.ErrWrongSealedSecret, tpm2.TPMRCAuthFail), "", "the sealed data has another secret; if none was ever set"},
		{"owner, default", tpmkey.ErrWrongOwnerSecret, "", "-owner-pass wellknown"},
		{"owner, given", tpmkey.ErrWrongOwnerSecret, "owner-pass", "than -owner-pass says"},
		{"owner, well-known secret given", chip.MarkDefaultSecret(tpmkey.ErrWrongOwnerSecret, make([]byte, 20)), "owner-pass", "than -owner-pass says; one set by"},
		{"SRK, well-known secret given", chip.MarkDefaultSecret(tpmkey.ErrWrongSRKSecret, make([]byte, 20)), "srk-pass", "than -srk-pass says; one set by"},
		{"key, empty secret of a TPM 2.0", chip.MarkDefaultSecret(refused(tpmkey.ErrWrongKeySecret, tpm2.TPMRCAuthFail), []byte{}), "key-pass", "than -key-pass says; see tpmctl status"},
		{"locked out", tpmkey.ErrLockedOut, "", "tpmctl status"},
		{"other TPM", tpmkey.ErrWrongTPM, "", "tpmctl inspect"},
		{"secret needed", tpmkey.ErrSecretNeeded, "", "-key-pass"},
		{"not owned", tpmkey.ErrNotOwned, "", "tpmctl own"},
		{"disabled", tpmkey.ErrDisabled, "", "tpmctl enable and tpmctl activate, which say"},
		{"busy", tpmkey.ErrBusy, "", "-wait 5m waits longer"},
		{"no TPM in the machine", transport.ErrNoDevice, "", "-tpm NAME or $TPMKEY_TPM names the TPM; -tpm emulator2"},
		{"no name of a TPM", transport.ErrUnknownName, "tpm", "-tpm NAME"},
		{"lost", tpmkey.ErrGone, "", ""},
		{"unknown", errors.New("odd"), "", ""},
		{"wrong parent's secret", refused(tpmkey.ErrWrongSRKSecret, tpm2.TPMRCBadAuth), "", "try -srk-pass prompt"},
		{"secret of a hierarchy", errors.Join(tpmkey.ErrWrongSRKSecret, &tpm20.Error{Command: tpm2.TPMCCCreatePrimary, Code: tpm2.TPMRCBadAuth}), "", "-parent 0x81…"},
		{"secret of a hierarchy, given", errors.Join(tpmkey.ErrWrongSRKSecret, &tpm20.Error{Command: tpm2.TPMCCCreatePrimary, Code: tpm2.TPMRCBadAuth}), "srk-pass", "give -parent 0x81…, too"},
		{"secret of a hierarchy, parent given", errors.Join(tpmkey.ErrWrongSRKSecret, &tpm20.Error{Command: tpm2.TPMCCCreatePrimary, Code: tpm2.TPMRCBadAuth}), "parent", "try -srk-pass prompt"},
		{"wrong parent's secret, given", refused(tpmkey.ErrWrongSRKSecret, tpm2.TPMRCBadAuth), "srk-pass", "another secret than -srk-pass says"},
		{"wrong parent's secret, given and counted", refused(tpmkey.ErrWrongSRKSecret, tpm2.TPMRCAuthFail), "srk-pass", "-srk-pass says; if none was ever set, leave -srk-pass out; see tpmctl status before the next try"},
		{"wrong key secret of a TPM 2.0", refused(tpmkey.ErrWrongKeySecret, tpm2.TPMRCAuthFail), "", "tpmctl status before the next try"},
		{"the last try of a TPM 2.0", errors.Join(refused(tpmkey.ErrWrongKeySecret, tpm2.TPMRCAuthFail), tpmkey.ErrLockedOut), "", "-key-pass wellknown; the TPM is locked out now: tpmctl status shows"},
		{"no secret, says the file", refused(chip.ErrHasSecret, tpm2.TPMRCAuthFail), "", "try -key-pass prompt, which asks for the key's secret; tpm2_encodeobject 5.4 writes such files; see tpmctl status"},
		{"no secret, says the file, but one was given", refused(chip.ErrHasSecret, tpm2.TPMRCAuthFail), "key-pass", "another secret than -key-pass says; if none was ever set, -key-pass wellknown"},
		{"key of another TPM 2.0", refused(tpmkey.ErrWrongTPM, tpm2.TPMRCIntegrity), "", "-parent names another"},
		{"no room", refused(nil, tpm2.TPMRCObjectMemory), "", "tpmctl flush"},
		{"failure mode", &tpm20.Error{Code: tpm2.TPMRCFailure, Failed: true}, "", "off and on again"},
		{"a failure of one command", refused(nil, tpm2.TPMRCFailure), "", "try again; tpmctl status"},
		{"a damaged importable key", refused(tpmkey.ErrWrongTPM, tpm2.TPMRCFailure), "parent", "only with the TPM that made it"},
		{"no such parent", refused(tpmkey.ErrNoParent, tpm2.TPMRCHandle), "", "-parent owner makes again"},
		{"parent that may have been copied", tpmkey.ErrMovableParent, "", "-movable-parent"},
		{"key of the null hierarchy", refused(chip.ErrEnded, tpm2.TPMRCIntegrity), "", "without -parent null"},
		{"no parent", tpmkey.ErrNoParent, "", "-parent"},
		{"no such key", tpmkey.ErrNoKey, "", "tpmctl status lists"},
		{"other generation", tpmkey.ErrWrongGeneration, "", "tpmctl inspect"},
		{"policy", tpmkey.ErrPolicy, "", "tpmctl inspect shows the policy"},
		{"policy without its steps", chip.ErrUnknownPolicy, "", "say the steps with -policy"},
		{"another policy", chip.ErrOtherPolicy, "", "give -policy the steps as they were"},
		{"policy that wants a secret", chip.ErrPolicySecret, "", "give the secret that it asks for with -key-pass"},
		{"secret of another", chip.ErrWrongPolicySecret, "key-pass", "the secret that the error names"},
		{"secret of another, refused by a TPM 2.0", refused(chip.ErrWrongPolicySecret, tpm2.TPMRCBadAuth), "", "the secret that the error names"},
		{"no owner", chip.ErrNoSRK, "", "tpmctl own"},
		{"owner already", chip.ErrOwned, "", "tpmctl clear"},
		{"limits of a key", fmt.Errorf("%w: it", chip.ErrKeyLimits), "", "tpmctl inspect says"},
		{"software key that no TPM takes", fmt.Errorf("%w: it", chip.ErrNotWrappable), "", "make a new key with keygen"},
		{"software key", &blob.NotKeyError{What: "a private key", PrivateKey: true}, "", "wrap it with keygen -w"},
		{"certificate", &blob.NotKeyError{What: "a certificate"}, "", "keygen makes a new key"},
		{"half of a pair", &blob.NotKeyError{Half: blob.PublicHalf}, "", "NAME.pub and NAME.priv"},
		{"code of a TPM 1.2", &tpm12.Error{Code: tpm12.Resources}, "", "tpmctl flush"},
		{"disk of a software TPM 1.2", &tpm12.Error{Code: tpm12.AuditFailDone}, "", "check that its disk is not full"},
		{"code of a TPM 2.0", refused(nil, tpm2.TPMRCContextGap), "", "tpmctl flush -saved"},
		{"code with nothing to do", refused(nil, tpm2.TPMRCScheme), "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Hint(fmt.Errorf("load maclef: %w", test.err), func(flag string) bool { return flag == test.given })
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// refused is what a TPM 2.0 has refused, which means kind.
func refused(kind error, code tpm2.TPMRC) error {
	return errors.Join(kind, &tpm20.Error{Code: code})
}
