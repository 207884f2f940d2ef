package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func explain(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Args = []string{"CODE"}
	fs.Notes = "CODE is a number, decimal or 0x…, or a name, also in trousers' spelling (TPM_E_…)."
	fs.Example = "tpmctl explain 0x803\ntpmctl explain TPM_NOSRK"
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	code, ok := parseCode(operands[0])
	name, advice := tpmkey.ExplainTPM12(code)
	if !ok || name == "" {
		return cli.WithHint(fmt.Errorf("%q is no error code of a TPM 1.2 that has a name", operands[0]),
			"codes with the bit 0x400 are the maker's own; others come from the kernel or a library, not from the TPM")
	}
	if advice == "" {
		advice = "the specification says no more than the name: TPM Main Part 2, section 16"
	}
	return printRows(env.Stdout, []row{{"code", fmt.Sprintf("%#x (%d)", code, code)}, {"name", name}, {"meaning", advice}})
}

// parseCode reads a number or a name, whose TPM_ may be missing, or be TPM_E_ as
// in trousers.
func parseCode(text string) (uint32, bool) {
	upper := strings.ToUpper(text)
	digits, base := upper, 10
	if hex, ok := strings.CutPrefix(upper, "0X"); ok {
		digits, base = hex, 16
	}
	if n, err := strconv.ParseUint(digits, base, 32); err == nil {
		return uint32(n), true
	}
	want := "TPM_" + strings.TrimPrefix(strings.TrimPrefix(upper, "TPM_"), "E_")
	codes := tpmkey.TPM12ResultCodes()
	i := slices.IndexFunc(codes, func(code uint32) bool {
		name, _ := tpmkey.ExplainTPM12(code)
		return name == want
	})
	if i < 0 {
		return 0, false
	}
	return codes[i], true
}
