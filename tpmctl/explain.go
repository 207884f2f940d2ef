package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"maclef/internal/chip12"
	"maclef/internal/chip20"
	"maclef/internal/cli"
)

func explain(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Args = []string{"CODE"}
	fs.Notes = "CODE is a number, decimal or 0x…, or a name, also in trousers' spelling (TPM_E_…). The codes of a TPM 1.2 and of a " +
		"TPM 2.0 (TPM_RC_…) are different numbers, so it needs not be said which TPM it was."
	fs.Example = "tpmctl explain 0x803\ntpmctl explain TPM_NOSRK\ntpmctl explain 0x98e\ntpmctl explain TPM_RC_LOCKOUT"
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	m, ok := meaningOf(operands[0])
	if !ok {
		return cli.WithHint(fmt.Errorf("%q is no error code of a TPM that has a name", operands[0]),
			"codes of a TPM 1.2 with the bit 0x400 are the maker's own; others come from the kernel or a library, not from the TPM")
	}
	if m.advice == "" {
		m.advice = "the specification says no more than the name: " + m.source
	}
	return printRows(env.Stdout, []row{
		{"code", fmt.Sprintf("%#x (%d)", m.code, m.code)}, {"name", m.name}, {"family", "TPM " + m.family}, {"meaning", m.advice},
	})
}

// A meaning is what a code stands for.
type meaning struct {
	code         uint32
	name, advice string
	family       string
	source       string // of the name
}

// meaningOf reads a number or a name. A response code of a TPM 2.0 has one of two bits
// that no code of a TPM 1.2 has; only success is the same: TPM 2.0 Library Part 2,
// section 6.6.2 (Response Code Formats).
func meaningOf(text string) (*meaning, bool) {
	if code, ok := parseNumber(text); ok {
		return explainCode(code)
	}
	name := "TPM_" + strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(text), "TPM_"), "E_")
	for _, code := range chip12.ResultCodes() {
		if known, _ := chip12.Explain(code); known == name {
			return explainCode(code)
		}
	}
	name = "TPM_RC_" + strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(text), "TPM_"), "TPM2_"), "RC_")
	codes := chip20.ResultCodes()
	i := slices.IndexFunc(codes, func(code uint32) bool {
		known, _ := chip20.Explain(code)
		return known == name
	})
	if i < 0 {
		return nil, false
	}
	return explainCode(codes[i])
}

func explainCode(code uint32) (*meaning, bool) {
	if name, advice := chip12.Explain(code); name != "" {
		family := "1.2"
		if code == 0 {
			family = "1.2 and 2.0"
		}
		return &meaning{code, name, advice, family, "TPM Main Part 2, section 16"}, true
	}
	name, advice := chip20.Explain(code)
	return &meaning{code, name, advice, "2.0", "TPM 2.0 Library Part 2, section 6.6"}, name != ""
}

func parseNumber(text string) (uint32, bool) {
	digits, base := strings.ToUpper(text), 10
	if hex, ok := strings.CutPrefix(digits, "0X"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return uint32(n), err == nil
}
