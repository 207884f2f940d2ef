package tpm20

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// A PolicyCommand is a command of a policy as a key file holds it: its code, and its
// parameters as they go over the wire, without the handle of the session. Files have
// a form of their own for some commands; policyterm.go tells which.
type PolicyCommand struct {
	Code tpm2.TPMCC
	Body []byte
}

// A SignedPolicy is a policy that somebody signed, so that it may stand in for the one
// that names the signer. Its last command is TPM2_PolicyAuthorize.
type SignedPolicy struct {
	Name     string // for people, may be empty
	Commands []PolicyCommand
}

// A Policy is what has to be run in a policy session before a key is used. It is not
// for concurrent use.
//
// TPM 2.0 Library Part 1, section 19.7 (Enhanced Authorization);
// draft-bottomley-tpm2-keys, sections 4 and 5
type Policy struct {
	alg    tpm2.TPMIAlgHash
	size   int    // of its digests
	want   []byte // authPolicy of the key
	main   *branch
	signed []*branch
	last   *branch // of signed, that was met last
}

// A branch is a list of commands of which each must succeed.
type branch struct {
	name  string // of a signed policy
	terms []term
}

// Bounds on what a file can make the TPM do. No real policy comes near them.
const (
	maxPolicyCommands = 64 // in one list
	maxSignedPolicies = 64
	maxSignedDepth    = 4 // signed policies that want a signed policy first
	maxPolicySteps    = 256
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

// NewPolicy reads the policy of a key: nameAlg and authPolicy are those of its public
// area, commands and signed those of its file. An error means that the file is
// damaged; a policy that can be read but never be met is left to [Policy.Check].
func NewPolicy(nameAlg tpm2.TPMIAlgHash, authPolicy []byte, commands []PolicyCommand, signed []SignedPolicy) (*Policy, error) {
	hash, err := policyHash(nameAlg)
	if err != nil {
		return nil, err
	}
	p := &Policy{alg: nameAlg, size: hash.Size(), want: bytes.Clone(authPolicy)}
	if p.main, err = p.parse("policy", "", commands); err != nil {
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
		b, err := p.parse(fmt.Sprintf("signed policy %d", i+1), name, s.Commands)
		if err != nil {
			return nil, err
		}
		p.signed = append(p.signed, b)
	}
	return p, nil
}

func policyHash(alg tpm2.TPMIAlgHash) (crypto.Hash, error) {
	hash, err := alg.Hash()
	if err == nil && !hash.Available() {
		err = errors.New("not available")
	}
	if err != nil {
		return 0, fmt.Errorf("policy: hash algorithm %#04x is none of SHA-1, SHA-256, SHA-384, SHA-512", uint16(alg))
	}
	return hash, nil
}

func (p *Policy) parse(what, name string, commands []PolicyCommand) (*branch, error) {
	if len(commands) > maxPolicyCommands {
		return nil, fmt.Errorf("%s: %d commands, more than the %d that are run", what, len(commands), maxPolicyCommands)
	}
	b := &branch{name: name}
	for i, command := range commands {
		t, err := newTerm(command, p.size)
		if err != nil {
			return nil, fmt.Errorf("%s, command %d (%s): %w", what, i+1, commandName(command.Code), err)
		}
		b.terms = append(b.terms, t)
	}
	return b, nil
}

// Hash is the hash algorithm that a session must have for the policy.
func (p *Policy) Hash() tpm2.TPMIAlgHash { return p.alg }

// opening is the command that a signed policy stands in for, nil where there is none:
// a first TPM2_PolicyAuthorize without a signature.
func (b *branch) opening() *authorizeTerm {
	if len(b.terms) == 0 {
		return nil
	}
	if a, ok := b.terms[0].(*authorizeTerm); ok && !a.hasSignature() {
		return a
	}
	return nil
}

// closing is the command by which a signed policy takes effect.
func (b *branch) closing() *authorizeTerm {
	if len(b.terms) == 0 {
		return nil
	}
	if a, ok := b.terms[len(b.terms)-1].(*authorizeTerm); ok && a.hasSignature() {
		return a
	}
	return nil
}

// digest is what the session's digest is after b, as far as software can tell.
func (p *Policy) digest(b *branch) policyDigest {
	d := newPolicyDigest(p.alg)
	for _, t := range b.terms {
		d = t.extend(d)
	}
	return d
}

// WantsSecret reports whether the key's secret is needed for the policy: by all ways
// to meet it, and by any.
func (p *Policy) WantsSecret() (always, ever bool) {
	main := p.main.wantsSecret()
	if main || p.main.opening() == nil {
		return main, main
	}
	always = len(p.signed) > 0
	for _, b := range p.signed {
		wants := b.wantsSecret()
		always = always && wants
		ever = ever || wants
	}
	return always, ever
}

func (b *branch) wantsSecret() bool {
	return b.wantsAuthValue() || len(b.ofOthers()) > 0
}

func (b *branch) wantsAuthValue() bool {
	for _, t := range b.terms {
		if p, ok := t.(*plainTerm); ok && p.code == tpm2.TPMCCPolicyAuthValue {
			return true
		}
	}
	return false
}

// ofOthers are the demands for the secrets of others.
func (b *branch) ofOthers() []*secretTerm {
	var all []*secretTerm
	for _, t := range b.terms {
		if s, ok := t.(*secretTerm); ok {
			all = append(all, s)
		}
	}
	return all
}

// allows reports whether TPM2_PolicyCommandCode lets the key be used by a command; 0 is
// one that is not known yet.
func (b *branch) allows(use tpm2.TPMCC) bool {
	for _, t := range b.terms {
		if c, ok := t.(*plainTerm); ok && use != 0 && c.code == tpm2.TPMCCPolicyCommandCode && c.allowed != use {
			return false
		}
	}
	return true
}

// Check is an [Unmet] for a policy that will not be met whatever the TPM says: it
// sends nothing.
func (p *Policy) Check() error {
	if len(p.main.terms) == 0 {
		return unmet(nil, "the file has no policy, and the key cannot be used without the one it was made with")
	}
	if len(p.want) == 0 {
		return unmet(nil, "the key was made without a policy (authPolicy), and the file has one")
	}
	if err := p.main.check(p.alg); err != nil {
		return err
	}
	if d := p.digest(p.main); d.known() && !bytes.Equal(d.value, p.want) {
		return unmet(nil, "the policy of the file is not the one the key was made with (authPolicy)")
	}
	if p.main.opening() != nil && len(p.signed) == 0 {
		return unmet(nil, "it wants a policy signed by key %s, and there is none in the file", p.main.opening().keyName())
	}
	return nil
}

// check finds what no TPM can do about b.
func (b *branch) check(alg tpm2.TPMIAlgHash) error {
	d := newPolicyDigest(alg)
	for i, t := range b.terms {
		if err := t.check(d); err != nil {
			return err
		}
		if a, ok := t.(*authorizeTerm); ok && !a.hasSignature() && i > 0 {
			return unmet(nil, "its command %d wants a signed policy, which only the first one can", i+1)
		}
		d = t.extend(d)
	}
	return nil
}

// PolicyDigest is the authPolicy of a key made with these commands, which software
// must be able to tell.
func PolicyDigest(alg tpm2.TPMIAlgHash, commands ...PolicyCommand) ([]byte, error) {
	p, err := NewPolicy(alg, nil, commands, nil)
	if err != nil {
		return nil, err
	}
	d := p.digest(p.main)
	if !d.known() {
		return nil, ErrOnlyTPM
	}
	return d.value, nil
}

// ErrOnlyTPM is a policy whose digest software cannot tell.
var ErrOnlyTPM = errors.New("the digest of this policy is known to the TPM only")
