package tpmkey

import (
	"fmt"
	"maclef/internal/policy"
)

// A Policy restricts the use of a TPM 2.0 key, or of data sealed to any TPM: PCRs must have the values that
// they have when it is made. If the key has a secret, both are required. [ParsePolicy] returns
// one. A Policy never changes.
type Policy struct {
	pcrs []policy.PCRSelection // in the order of the text
}

// ParsePolicy parses a policy such as "pcr:sha256:7", "pcr:0-7,11" or "pcr:sha256:7,11+sha1:4":
// PCRs separated by "," or "+". A bank applies to the PCRs after it; the default is sha256.
func ParsePolicy(text string) (*Policy, error) {
	pcrs, err := policy.ParsePCRs(text)
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w; it is written such as pcr:sha256:7,11", text, err)
	}
	return &Policy{pcrs}, nil
}

// String returns the policy in the form that ParsePolicy takes.
func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	return policy.PCRText(p.pcrs)
}
