// Package policy knows the policies of TPM 2.0 objects: what must hold for an object to
// be used. It reads the commands of a policy, computes their digest, checks and describes
// them, and runs them on a TPM that it is given.
//
// TPM 2.0 Library Part 1, section 19.7 (Enhanced Authorization);
// draft-bottomley-tpm2-keys, sections 4 and 5
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

// A Policy is what has to be run in a policy session before a key is used. It is not
// for concurrent use.
type Policy struct {
	alg    tpm2.TPMIAlgHash
	hash   crypto.Hash
	want   []byte // authPolicy of the key
	main   *branch
	signed []*branch
	last   *branch // of signed, the one that was met last
}

// A branch is a list of commands of which each must succeed.
type branch struct {
	name       string // of a signed policy
	commands   []blob.PolicyCommand
	assertions []assertion // what the commands say
}

// Bounds on what a file can make the TPM do. No real policy comes near them.
const (
	maxCommands       = 64 // in one list
	maxSignedPolicies = 64
	maxSignedDepth    = 4 // signed policies that want a signed policy first
	maxSteps          = 256
)

// Unmet is a policy that does not hold. Nothing was tried that the TPM counts. Its
// text says what is missing, and goes on a sentence about the policy or the key.
type Unmet struct {
	Why    string
	Secret bool  // a secret would help, and none was given
	cause  error // the TPM's refusal, where it was the TPM that found out
}

func (e *Unmet) Error() string { return e.Why }
func (e *Unmet) Unwrap() error { return e.cause }

func unmet(cause error, format string, args ...any) error {
	return &Unmet{Why: fmt.Sprintf(format, args...), cause: cause}
}

// New reads the policy of a key: nameAlg and authPolicy are those of its public area,
// commands and signed those of its file. An error means that the file is damaged; a
// policy that can be read but never be met is left to [Policy.Check].
func New(nameAlg tpm2.TPMIAlgHash, authPolicy []byte, commands []blob.PolicyCommand, signed []blob.AuthPolicy) (*Policy, error) {
	hash, err := hashOf(nameAlg)
	if err != nil {
		return nil, err
	}
	p := &Policy{alg: nameAlg, hash: hash, want: bytes.Clone(authPolicy)}
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

// Alg is the hash algorithm that a session must have for the policy.
func (p *Policy) Alg() tpm2.TPMIAlgHash { return p.alg }

// wildcard is the command that a signed policy stands in for, nil where there is none:
// a first TPM2_PolicyAuthorize without a signature.
func (b *branch) wildcard() *authorizeAssertion { return b.authorize(0, false) }

// signature is the command by which a signed policy takes effect, nil where there is none:
// a last TPM2_PolicyAuthorize with a signature.
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

// wantsAuthValue reports whether the key's own secret is needed.
func (b *branch) wantsAuthValue() bool {
	for _, a := range b.assertions {
		if p, ok := a.(*plainAssertion); ok && p.sent == tpm2.TPMCCPolicyAuthValue {
			return true
		}
	}
	return false
}

// Allows reports whether the commands of a policy let a key be used by the command use.
//
// TPM 2.0 Library Part 3, section 23.11 (TPM2_PolicyCommandCode)
func Allows(commands []blob.PolicyCommand, use tpm2.TPMCC) bool {
	for _, c := range commands {
		if tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyCommandCode && len(c.Policy) == 4 && tpm2.TPMCC(binary.BigEndian.Uint32(c.Policy)) != use {
			return false
		}
	}
	return true
}

// allows is an Unmet where b does not let the key be used by a command; 0 is one that is
// not known yet.
func (b *branch) allows(use tpm2.TPMCC) error {
	if use == 0 || Allows(b.commands, use) {
		return nil
	}
	return unmet(nil, "it does not allow %s (TPM2_PolicyCommandCode)", commandName(use))
}

// Digest is the digest of a policy: what a session has after the commands, and the
// authPolicy of a key that is made with them. alg is the name algorithm of the key. The
// error says which command is damaged (then it wraps [blob.ErrDamaged]), or has an effect
// that only the TPM knows.
func Digest(alg tpm2.TPMIAlgHash, commands []blob.PolicyCommand) ([]byte, error) {
	hash, err := hashOf(alg)
	if err != nil {
		return nil, err
	}
	d := newDigest(hash)
	for _, c := range commands {
		if !understood(tpm2.TPMCC(c.Code)) {
			return nil, fmt.Errorf("what %s does to a policy is not known from its parameters alone", fileName(tpm2.TPMCC(c.Code)))
		}
		a, err := parse(c, hash.Size())
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", blob.ErrDamaged, fileName(tpm2.TPMCC(c.Code)), err)
		}
		if d = a.extend(d); !d.known() {
			return nil, errors.New("PolicyPCR means the PCRs as they are, and only the TPM knows them")
		}
	}
	return d.value, nil
}

// Check is an [Unmet] for a policy that will not be met whatever the TPM says: it
// sends nothing.
func (p *Policy) Check() error {
	if len(p.main.assertions) == 0 {
		return unmet(nil, "the file has no policy, and the key cannot be used without the one it was made with")
	}
	if len(p.want) == 0 {
		return unmet(nil, "the key was made without a policy (authPolicy), and the file has one")
	}
	d, err := p.main.check(p.hash)
	if err != nil {
		return err
	}
	if d.known() && !bytes.Equal(d.value, p.want) {
		return unmet(nil, "the policy of the file is not the one the key was made with (authPolicy)")
	}
	if a := p.main.wildcard(); a != nil && len(p.signed) == 0 {
		return unmet(nil, "it wants a policy signed by key %s, and there is none in the file", shortName(a.name))
	}
	return nil
}

// check finds what no TPM can do about b, and returns the digest after b.
func (b *branch) check(hash crypto.Hash) (digest, error) {
	d := newDigest(hash)
	for i, a := range b.assertions {
		if err := a.check(d); err != nil {
			return d, err
		}
		if auth, ok := a.(*authorizeAssertion); ok && !auth.signed() && i > 0 {
			return d, unmet(nil, "its command %d wants a signed policy, which only the first one can", i+1)
		}
		d = a.extend(d)
	}
	return d, nil
}
