package cli

import "maclef/tpmkey"

// A PolicyFlag is what must hold for a new key to be used, by -policy.
type PolicyFlag struct {
	Policy *tpmkey.Policy // nil if not given
	text   string
}

// Policy defines -policy.
func (fs *FlagSet) Policy() *PolicyFlag {
	f := new(PolicyFlag)
	fs.Var(f, "policy", "TPM 2.0: what must hold when it is used, a `POLICY`: pcr:sha256:7,11 is that these PCRs have the values they have now")
	return f
}

// Set reads a policy.
func (f *PolicyFlag) Set(text string) error {
	policy, err := tpmkey.ParsePolicy(text)
	if err != nil {
		return err
	}
	f.Policy, f.text = policy, text
	return nil
}

func (f *PolicyFlag) String() string { return f.text }
