package tpmkey

import (
	"fmt"
	"maclef/internal/policy"
)

// A Policy says what must hold for a key, or sealed data, of a TPM 2.0 to be used:
// that PCRs have the values they have when it is made. One with a secret needs the
// secret besides. Read it with [ParsePolicy]; a Policy never changes.
type Policy struct {
	pcrs []policy.PCRSelection // in the order of the text
}

// ParsePolicy reads a policy such as "pcr:sha256:7", "pcr:0-7,11" or
// "pcr:sha256:7,11+sha1:4": PCRs with "," or "+" between them, each after its bank, or
// that of the one before. The first one's is sha256 if it has none.
func ParsePolicy(text string) (*Policy, error) {
	pcrs, err := policy.ParsePCRs(text)
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w; it is written such as pcr:sha256:7,11", text, err)
	}
	return &Policy{pcrs}, nil
}

// String is the policy as ParsePolicy reads it.
func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	return policy.PCRText(p.pcrs)
}
