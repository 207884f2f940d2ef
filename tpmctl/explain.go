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
	fs.Notes = "CODE is a number, decimal or 0x…, or a name."
	fs.Example = "tpmctl explain 0x803\ntpmctl explain TPM_NOSRK"
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	code, ok := parseCode(operands[0])
	name, advice := tpmkey.ExplainCode(code)
	if !ok || name == "" {
		return cli.WithHint(fmt.Errorf("%q is no error code of a TPM 1.2 that has a name", operands[0]),
			"codes with the bit 0x400 are the maker's own; others come from the kernel or a library, not from the TPM")
	}
	if advice == "" {
		advice = "the specification says no more than the name: TPM Main Part 2, section 16"
	}
	return printRows(env.Stdout, []row{{"code", fmt.Sprintf("%#x (%d)", code, code)}, {"name", name}, {"meaning", advice}})
}

// parseCode reads a number or a name, whose TPM_ may be missing.
func parseCode(text string) (uint32, bool) {
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return uint32(n), true
	}
	want := "TPM_" + strings.TrimPrefix(strings.ToUpper(text), "TPM_")
	codes := tpmkey.ResultCodes()
	i := slices.IndexFunc(codes, func(code uint32) bool {
		name, _ := tpmkey.ExplainCode(code)
		return name == want
	})
	if i < 0 {
		return 0, false
	}
	return codes[i], true
}
