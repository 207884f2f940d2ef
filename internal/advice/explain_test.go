package advice

import (
	"fmt"
	"strings"
	"testing"

	"maclef/internal/tpm12"
)

func TestExplain(t *testing.T) {
	for _, group := range []struct {
		family string
		codes  []uint32
		names  int // TPM Main Part 2, section 16; TPM 2.0 Library Part 2, section 6.6
		least  int // explained
	}{
		{"1.2", tpm12.ResultCodes(), 103, 40},
		{"2.0", resultCodes20(), 95, 38},
	} {
		explained := 0
		for _, code := range group.codes {
			m, ok := Explain(fmt.Sprintf("%#x", code))
			if !ok || m.Name == "" || m.Code != code || !strings.HasPrefix(m.Family, group.family) {
				t.Errorf("%#x: %+v", code, m)
				continue
			}
			if again, ok := Explain(m.Name); !ok || again.Code != code {
				t.Errorf("%s is %+v", m.Name, again)
			}
			if m.Text != "" {
				explained++
			}
		}
		if len(group.codes) != group.names || explained < group.least {
			t.Errorf("%s: %d codes, %d explained", group.family, len(group.codes), explained)
		}
	}
	if m, ok := Explain("0x463"); ok {
		t.Error(m)
	}
}

// Each cure belongs to a code that has a cause, so that "tpmctl explain" makes a sentence.
func TestAdviceHasCauses(t *testing.T) {
	for code := range advice12 {
		if m, ok := meaningOf(uint32(code)); !ok || !strings.Contains(m.Text, "; ") {
			t.Errorf("%v: %+v", code, m)
		}
	}
	for code := range advice20 {
		if m, ok := meaningOf(uint32(code)); !ok || !strings.Contains(m.Text, "; ") {
			t.Errorf("%v: %+v", code, m)
		}
	}
}
