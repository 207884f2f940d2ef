package tpmkey

import (
	"fmt"

	"maclef/internal/policy"
)

// A Policy restricts the use of a TPM 2.0 key, or of data sealed to any TPM. For a new one, PCRs must have the
// values that they have when it is made. If it has a secret, both are required. For an existing
// one, whose file has only the digest of a policy, it says the steps. [ParsePolicy] returns one. A
// Policy never changes.
type Policy struct {
	steps []policy.Step // in the order of the text
}

// ParsePolicy parses the steps of a policy, joined by "+". Their order matters.
//
//   - "pcr:sha256:7", "pcr:0-7,11" or "pcr:sha256:7,11+sha1:4": the present values of PCRs, separated
//     by "," or "+" (TPM2_PolicyPCR). A bank applies to the PCRs after it; the default is sha256.
//   - "auth" or "password": the secret of the key (TPM2_PolicyAuthValue, TPM2_PolicyPassword, which
//     have the same digest). For a new key with a secret it is the last step if it is left out.
//   - "command:sign", rsadecrypt, ecdhzgen, unseal, or a number: this command only
//     (TPM2_PolicyCommandCode).
//
// An error repeats no more of the text than a word: some write a secret after "password:".
// TPM 2.0 Library Part 3, section 23.
func ParsePolicy(text string) (*Policy, error) {
	steps, err := policy.ParseSteps(text)
	if err != nil {
		return nil, fmt.Errorf("%w; steps are such as pcr:sha256:7,11, auth and command:sign, joined by +", err)
	}
	return &Policy{steps}, nil
}

// String returns the policy in the form that ParsePolicy takes.
func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	return policy.StepsText(p.steps)
}
