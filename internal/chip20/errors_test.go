package chip20

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// TPM_RC_FAILURE is the TPM's only in failure mode; else it is about the file, or about one command.
func TestExplainFailure(t *testing.T) {
	c := new(Chip)
	for _, test := range []struct {
		command tpm2.TPMCC
		failed  bool
		kind    error // nil for none
		text    string
	}{
		{tpm2.TPMCCImport, false, chip.ErrWrongTPM, "its encrypted seed is not for this parent"},
		{tpm2.TPMCCImport, true, nil, "the TPM is in failure mode"},
		{tpm2.TPMCCLoad, false, nil, "is not in failure mode"},
		{tpm2.TPMCCLoad, true, nil, "the TPM is in failure mode"},
		{tpm2.TPMCCCreatePrimary, false, nil, "is not in failure mode"},
	} {
		err := c.explainLoad(new(blob.TSS2), &tpm20.Error{Command: test.command, Code: tpm2.TPMRCFailure, Failed: test.failed})
		if !strings.Contains(err.Error(), test.text) || errors.Is(err, chip.ErrWrongTPM) != (test.kind != nil) {
			t.Errorf("command %#x, failed %v: %v", uint32(test.command), test.failed, err)
		}
	}
}

// Of the errors of several parents, the one that explains most is told.
func TestBetter(t *testing.T) {
	code := func(command tpm2.TPMCC, code tpm2.TPMRC) error { return &tpm20.Error{Command: command, Code: code} }
	ranked := [][]error{ // from the least to the best
		{code(tpm2.TPMCCCreatePrimary, tpm2.TPMRCCurve), code(tpm2.TPMCCCreatePrimary, tpm2.TPMRCHierarchy)},
		{code(tpm2.TPMCCLoad, tpm2.TPMRCIntegrity), code(tpm2.TPMCCImport, tpm2.TPMRCFailure), code(tpm2.TPMCCImport, tpm2.TPMRCValue+0x440)}, // parameter 4
		{chip.ErrWrongSRKSecret, code(tpm2.TPMCCLoad, tpm2.TPMRCAuthFail)},
		{code(tpm2.TPMCCLoad, tpm2.TPMRCBinding), code(tpm2.TPMCCImport, tpm2.TPMRCAttributes)},
		{code(tpm2.TPMCCLoad, tpm2.TPMRCLockout), chip.LockedOut("")},
	}
	for i, less := range ranked {
		for _, first := range less {
			if got := better(nil, first); got != first {
				t.Errorf("nothing and %v: %v", first, got)
			}
			for _, more := range ranked[i+1:] {
				for _, second := range more {
					if better(first, second) != second || better(second, first) != second {
						t.Errorf("%v hides %v", first, second)
					}
				}
			}
		}
	}
}
