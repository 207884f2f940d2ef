// Package policy implements policies of TPM 2.0 objects. It parses the commands of a policy,
// computes their digest, checks and describes them, and runs them on a TPM.
//
// TPM 2.0 Library Part 1, section 19.7 (Enhanced Authorization); draft-bottomley-tpm2-keys,
// sections 4 and 5
package policy

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
)

// A Policy is the policy of a key. It is not safe for concurrent use.
type Policy struct {
	alg        tpm2.TPMIAlgHash
	hash       crypto.Hash
	authPolicy []byte // authPolicy of the key
	main       *branch
	signed     []*branch
	last       *branch // the one of signed that was met last

	// used is the one of signed that was run for the command that follows. refused says why the
	// TPM refused that command after others, since the last command that it did not refuse.
	used    *branch
	refused map[*branch]string
}

// A branch is a list of commands that must all succeed.
type branch struct {
	name       string // of a signed policy
	commands   []blob.PolicyCommand
	assertions []assertion // the parsed commands
}

// Limits on what a file can make the TPM do. Real policies are far below them.
const (
	maxCommands       = 64 // in one list
	maxSignedPolicies = 64
	maxSignedDepth    = 4 // nesting of signed policies
	maxSteps          = 256
)

// Unmet means that the policy is not met. No secret was tried that the TPM counts. Why is the
// rest of a sentence about the policy or the key.
type Unmet struct {
	Why     string
	Secret  bool  // another secret is needed, or none was given
	Unknown bool  // the commands are not known
	Another bool  // the command may succeed if the policy is run again, by another signed policy
	cause   error // the TPM's error, nil if the TPM was not asked
}

func (e *Unmet) Error() string { return e.Why }
func (e *Unmet) Unwrap() error { return e.cause }

func unmet(cause error, format string, args ...any) error {
	return &Unmet{Why: fmt.Sprintf(format, args...), cause: cause}
}

// New parses the policy of a key. nameAlg and authPolicy are from its public area, commands and
// signed from its file. An error means that the file is damaged. Whether the policy can be met is
// checked by [Policy.Check].
func New(nameAlg tpm2.TPMIAlgHash, authPolicy []byte, commands []blob.PolicyCommand, signed []blob.AuthPolicy) (*Policy, error) {
	hash, err := hashOf(nameAlg)
	if err != nil {
		return nil, err
	}
	p := &Policy{alg: nameAlg, hash: hash, authPolicy: bytes.Clone(authPolicy), refused: map[*branch]string{}}
	if p.main, err = newBranch("policy", "", commands, hash.Size()); err != nil {
		return nil, err
	}
	if len(signed) > maxSignedPolicies {
		return nil, fmt.Errorf("%d signed policies, more than the %d that are looked at", len(signed), maxSignedPolicies)
	}
	for i, s := range signed {
		name := printableName(s.Name)
		if name == "" {
			name = fmt.Sprintf("number %d", i+1)
		}
		b, err := newBranch(fmt.Sprintf("signed policy %d", i+1), name, s.Policy, hash.Size())
		if err != nil {
			return nil, err
		}
		p.signed = append(p.signed, b)
	}
	return p, nil
}

func hashOf(alg tpm2.TPMIAlgHash) (crypto.Hash, error) {
	hash, err := alg.Hash()
	if err != nil || !hash.Available() {
		return 0, fmt.Errorf("policy: hash algorithm %#04x is none of SHA-1, SHA-256, SHA-384, SHA-512", uint16(alg))
	}
	return hash, nil
}

func newBranch(what, name string, commands []blob.PolicyCommand, size int) (*branch, error) {
	if len(commands) > maxCommands {
		return nil, fmt.Errorf("%s: %d commands, more than the %d that are run", what, len(commands), maxCommands)
	}
	b := &branch{name: name, commands: commands}
	for i, c := range commands {
		a, err := parse(c, size)
		if err != nil {
			return nil, fmt.Errorf("%s, command %d (%s): %w", what, i+1, commandName(tpm2.TPMCC(c.Code)), err)
		}
		b.assertions = append(b.assertions, a)
	}
	return b, nil
}

// Alg returns the hash algorithm of the policy, and of the session to run it in.
func (p *Policy) Alg() tpm2.TPMIAlgHash { return p.alg }

// wildcard returns the command that a signed policy replaces: a TPM2_PolicyAuthorize without a
// signature as first command. It returns nil if there is none.
func (b *branch) wildcard() *authorizeAssertion { return b.authorize(0, false) }

// signature returns the command that makes a signed policy valid: a TPM2_PolicyAuthorize with a
// signature as last command. It returns nil if there is none.
func (b *branch) signature() *authorizeAssertion { return b.authorize(len(b.assertions)-1, true) }

func (b *branch) authorize(i int, signed bool) *authorizeAssertion {
	if len(b.assertions) == 0 {
		return nil
	}
	if a, ok := b.assertions[i].(*authorizeAssertion); ok && a.signed() == signed {
		return a
	}
	return nil
}

// wantsAuthValue reports whether the branch requires the key's own secret.
func (b *branch) wantsAuthValue() bool {
	for _, a := range b.assertions {
		if p, ok := a.(*plainAssertion); ok && p.sent == tpm2.TPMCCPolicyAuthValue {
			return true
		}
	}
	return false
}

// Allows reports whether the commands of a policy allow the command use. TPM 2.0 Library Part 3,
// section 23.11 (TPM2_PolicyCommandCode).
func Allows(commands []blob.PolicyCommand, use tpm2.TPMCC) bool {
	for _, c := range commands {
		if tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyCommandCode && len(c.Policy) == 4 && tpm2.TPMCC(binary.BigEndian.Uint32(c.Policy)) != use {
			return false
		}
	}
	return true
}

// allows returns an Unmet if b does not allow a command. 0 means that the command is not known
// yet.
func (b *branch) allows(use tpm2.TPMCC) error {
	if use == 0 || Allows(b.commands, use) {
		return nil
	}
	return unmet(nil, "it does not allow %s (TPM2_PolicyCommandCode)", commandName(use))
}

// Digest returns the digest of a policy, which is the authPolicy of a key that is made with it.
// alg is the key's name algorithm. The error names the command that is damaged (then it wraps
// [blob.ErrDamaged]), or whose effect only the TPM knows.
func Digest(alg tpm2.TPMIAlgHash, commands []blob.PolicyCommand) ([]byte, error) {
	hash, err := hashOf(alg)
	if err != nil {
		return nil, err
	}
	d := newDigest(hash)
	for _, c := range commands {
		if !predictable(tpm2.TPMCC(c.Code)) {
			return nil, fmt.Errorf("what %s does to a policy is not known from its parameters alone", fileName(tpm2.TPMCC(c.Code)))
		}
		a, err := parse(c, hash.Size())
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", blob.ErrDamaged, fileName(tpm2.TPMCC(c.Code)), err)
		}
		if d = a.extend(d); !d.known() {
			return nil, errors.New("PolicyPCR uses the present PCRs, which only the TPM knows")
		}
	}
	return d.value, nil
}

// Check returns an [Unmet] if the policy can never be met. It sends nothing.
func (p *Policy) Check() error {
	// A policy of no commands has a digest of zeros.
	if len(p.main.assertions) == 0 && !bytes.Equal(p.authPolicy, newDigest(p.hash).value) {
		return &Unmet{Why: "only their digest is stored, " + shortName(p.authPolicy), Unknown: true}
	}
	if len(p.authPolicy) == 0 {
		return unmet(nil, "the key was made without a policy (authPolicy), and the file has one")
	}
	d, err := p.main.check(p.hash)
	if err != nil {
		return err
	}
	if d.known() && !bytes.Equal(d.value, p.authPolicy) {
		return unmet(nil, "the policy of the file is not the one the key was made with (authPolicy)")
	}
	if a := p.main.wildcard(); a != nil && len(p.signed) == 0 {
		return unmet(nil, "it needs a policy signed by key %s, and there is none in the file", shortName(a.name))
	}
	return nil
}

// check returns the digest after b, or an Unmet if b can never be met.
func (b *branch) check(hash crypto.Hash) (digest, error) {
	d := newDigest(hash)
	for i, a := range b.assertions {
		if err := a.check(d); err != nil {
			return d, err
		}
		if auth, ok := a.(*authorizeAssertion); ok && !auth.signed() && i > 0 {
			return d, unmet(nil, "its command %d needs a signed policy, which only the first one can", i+1)
		}
		d = a.extend(d)
	}
	return d, nil
}
