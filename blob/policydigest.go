package blob

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// PolicyDigest returns the digest of a policy: what a session has after these commands,
// and what is in the public area of a key with this policy. alg is the name algorithm of
// the key.
//
// It knows each command whose effect its parameters in a file tell. The error names one
// that it does not know, or whose parameters are damaged.
//
// TPM 2.0 Library Part 1, section 19.7 (Enhanced Authorization)
func PolicyDigest(alg tpm2.TPMAlgID, policy []PolicyCommand) ([]byte, error) {
	hash, err := nameHash(alg)
	if err != nil {
		return nil, err
	}
	digest := make([]byte, hash.Size())
	for _, c := range policy {
		step, err := c.hashed(alg)
		if err != nil {
			return nil, err
		}
		if step.resets {
			clear(digest)
		}
		args := step.args
		if step.digestArgs {
			h := hash.New()
			h.Write(args)
			args = h.Sum(nil)
		}
		h := hash.New()
		h.Write(digest)
		h.Write([]byte{byte(step.code >> 24), byte(step.code >> 16), byte(step.code >> 8), byte(step.code)})
		h.Write(args)
		digest = h.Sum(nil)
		if step.twice {
			h = hash.New()
			h.Write(digest)
			h.Write(step.ref)
			digest = h.Sum(nil)
		}
	}
	return digest, nil
}

// A policyStep is what a command does to the digest of a session.
type policyStep struct {
	resets     bool // begin with zeros
	code       tpm2.TPMCC
	args       []byte
	digestArgs bool   // of the arguments, their digest counts
	twice      bool   // the digest is extended once more, by ref
	ref        []byte // policyRef
}

// hashed returns what the command does to a session's digest.
//
// TPM 2.0 Library Part 3, sections 23.2.3 (PolicyUpdate) and 23.3 to 23.22
func (c PolicyCommand) hashed(alg tpm2.TPMAlgID) (policyStep, error) {
	step := policyStep{code: c.Code}
	r := c.reader()
	switch c.Code {
	case tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPhysicalPresence:
	case tpm2.TPMCCPolicyPassword: // the same policy, so that the user can choose
		step.code = tpm2.TPMCCPolicyAuthValue
	case tpm2.TPMCCPolicyPCR:
		err := step.pcr(c, alg)
		return step, err
	case tpm2.TPMCCPolicySecret:
		err := step.secret(c)
		return step, err
	case tpm2.TPMCCPolicyAuthorize:
		err := step.authorize(c)
		return step, err
	case tpm2.TPMCCPolicyCounterTimer:
		operand, rest, err := c.counterTimer()
		step.args, step.digestArgs = append(operand, rest...), true
		return step, err
	case tpm2.TPMCCPolicyOR:
		step.resets, step.args = true, r.digests(alg)
	case tpm2.TPMCCPolicyCommandCode:
		step.args = r.Bytes("command code", 4)
	case tpm2.TPMCCPolicyLocality:
		step.args = r.Bytes("locality", 1)
	case tpm2.TPMCCPolicyNvWritten:
		step.args = r.Bytes("writtenSet", 1)
	case tpm2.TPMCCPolicyCpHash, tpm2.TPMCCPolicyNameHash, tpm2.TPMCCPolicyTemplate:
		step.args = r.Sized16("digest")
	case tpm2.TPMCCPolicyDuplicationSelect:
		step.args = r.duplicationSelect()
	default:
		return step, fmt.Errorf("what %s does to a policy is not known from its parameters alone", policyName(c.Code))
	}
	return step, r.End(policyName(c.Code))
}

func (s *policyStep) pcr(c PolicyCommand, alg tpm2.TPMAlgID) error {
	p, err := c.PCR(alg)
	if err != nil {
		return err
	}
	if len(p.Digest) == 0 {
		return errors.New("PolicyPCR means the PCRs as they are, and only the TPM knows them")
	}
	s.args = append(tpm2.Marshal(p.Selection), p.Digest...)
	return nil
}

func (s *policyStep) secret(c PolicyCommand) error {
	p, err := c.Secret()
	if err != nil {
		return err
	}
	s.args, s.twice, s.ref = p.Name, true, p.Ref
	return nil
}

func (s *policyStep) authorize(c PolicyCommand) error {
	p, err := c.Authorize()
	if err != nil {
		return err
	}
	name, err := p.Name()
	s.resets, s.args, s.twice, s.ref = true, name, true, p.Ref
	return err
}

// digests reads a TPML_DIGEST of TPM2_PolicyOR and returns all digests without their
// sizes.
//
// TPM 2.0 Library Part 3, section 23.6 (TPM2_PolicyOR)
func (r *reader) digests(alg tpm2.TPMAlgID) (all []byte) {
	n := r.Uint32("number of digests")
	if r.Err == nil && (n < 2 || n > 8) {
		r.Err = damaged("PolicyOR has %d policies, and it takes 2 to 8", n)
	}
	for range n {
		if r.Err != nil {
			return nil
		}
		digest := r.Sized16("digest")
		if r.Err == nil && len(digest) != pubarea.HashSizes[alg] {
			r.Err = damaged("digest of PolicyOR has %d bytes, and one of %s has %d", len(digest), pubarea.AlgSpec(alg), pubarea.HashSizes[alg])
		}
		all = append(all, digest...)
	}
	return all
}

// duplicationSelect reads the parameters of a TPM2_PolicyDuplicationSelect and returns
// what is hashed of them.
//
// TPM 2.0 Library Part 3, section 23.15 (TPM2_PolicyDuplicationSelect)
func (r *reader) duplicationSelect() []byte {
	object, parent := r.Sized16("objectName"), r.Sized16("newParentName")
	include := r.Bytes("includeObject", 1)
	if !bytes.Equal(include, []byte{1}) {
		object = nil
	}
	return append(append(object, parent...), include...)
}

// counterTimer takes apart the parameters of a TPM2_PolicyCounterTimer: operandB, and
// offset and operation together. Files have operandB with its size or, as it is hashed,
// without.
//
// TPM 2.0 Library Part 3, section 23.10 (TPM2_PolicyCounterTimer)
func (c PolicyCommand) counterTimer() (operand, rest []byte, err error) {
	b := bytes.Clone(c.Policy)
	if len(b) < 5 {
		return nil, nil, damaged("PolicyCounterTimer has %d bytes, and takes 5 or more", len(b))
	}
	if len(b) > 6 && int(b[0])<<8|int(b[1]) == len(b)-6 {
		b = b[2:]
	}
	n := len(b) - 4
	return b[:n:n], b[n:], nil
}
