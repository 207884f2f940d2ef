package main

import (
	"cmp"
	"fmt"

	"maclef/internal/advice"
	"maclef/internal/cli"
)

func explain(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Args = []string{"CODE"}
	fs.Notes = "CODE is a number, decimal or 0x…, or a name, also in trousers' spelling (TPM_E_…). The codes of a TPM 1.2 and of a " +
		"TPM 2.0 (TPM_RC_…) are different numbers, so you need not say which TPM it was."
	fs.Example = "tpmctl explain 0x803\ntpmctl explain TPM_NOSRK\ntpmctl explain 0x98e\ntpmctl explain TPM_RC_LOCKOUT"
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	m, ok := advice.Explain(operands[0])
	if !ok {
		return cli.WithHint(fmt.Errorf("%q is not a known error code of a TPM", operands[0]),
			"codes of a TPM 1.2 with the bit 0x400 are specific to its vendor; others come from the kernel or a library, not from the TPM")
	}
	return printRows(env.Stdout, []row{
		{"code", fmt.Sprintf("%#x (%d)", m.Code, m.Code)}, {"name", m.Name}, {"family", "TPM " + m.Family},
		{"meaning", cmp.Or(m.Text, "the specification says no more than the name: "+m.Source)},
	})
}
