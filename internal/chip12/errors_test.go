package chip12_test

import (
	"testing"

	"maclef/internal/chip12"
)

func TestEveryCodeHasAName(t *testing.T) {
	codes := chip12.ResultCodes()
	explained := 0
	for _, code := range codes {
		name, advice := chip12.Explain(code)
		if name == "" {
			t.Errorf("%#x has no name", code)
		}
		if advice != "" {
			explained++
		}
	}
	if len(codes) != 103 || explained < 40 { // TPM Main Part 2, section 16
		t.Errorf("%d codes, %d explained", len(codes), explained)
	}
	if name, advice := chip12.Explain(0x463); name != "" || advice != "" {
		t.Error(name, advice)
	}
}
