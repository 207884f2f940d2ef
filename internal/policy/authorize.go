package policy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// An authorizeAssertion is TPM2_PolicyAuthorize: the policy before it must be signed. TPM 2.0
// Library Part 3, section 23.16 (TPM2_PolicyAuthorize).
type authorizeAssertion struct {
	runtimeChecked
	public    []byte // TPMT_PUBLIC of the signer
	name      []byte
	ref       []byte
	signature *tpm2.TPMTSignature // nil: one of the file's signed policies has it

	ticket   tpm2.TPMTTKVerified // from TPM2_VerifySignature
	approved []byte              // the digest that ticket is for, nil if there is no ticket
}

func parseAuthorize(body []byte) (assertion, error) {
	s := cryptobyte.String(body)
	var public, ref cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&public) || !s.ReadUint16LengthPrefixed(&ref) {
		return nil, errors.New("it is not a public key, a policyRef and a signature")
	}
	if len(ref) > maxName {
		return nil, errors.New("its policyRef is longer than any digest")
	}
	if len(public) < 4 {
		return nil, errors.New("its public key is too short")
	}
	alg := public[2:4]
	hash, err := hashOf(tpm2.TPMIAlgHash(binary.BigEndian.Uint16(alg)))
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	signature, err := readSignature(s)
	if err != nil {
		return nil, err
	}
	name := append(bytes.Clone(alg), sum(hash, public)...)
	return &authorizeAssertion{public: public, name: name, ref: ref, signature: signature}, nil
}

// readSignature parses a TPMT_SIGNATURE; it returns nil for an empty one. TPM 2.0 Library Part 2,
// section 11.3.4 (TPMT_SIGNATURE).
func readSignature(b []byte) (*tpm2.TPMTSignature, error) {
	var alg uint16
	s := cryptobyte.String(b)
	s.ReadUint16(&alg)
	switch tpm2.TPMAlgID(alg) {
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgECDSA:
		signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](b)
		if err != nil || !bytes.Equal(tpm2.Marshal(signature), b) {
			return nil, fmt.Errorf("%d bytes are not a valid signature", len(b))
		}
		return signature, nil
	case tpm2.TPMAlgNull:
		if s.Empty() {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("unsupported signature scheme %#x", alg)
}

func (a *authorizeAssertion) signed() bool { return a.signature != nil }

func (a *authorizeAssertion) extend(d digest) digest {
	return d.reset().extendTwice(tpm2.TPMCCPolicyAuthorize, a.name, a.ref)
}

// run uses the session's current digest as the signed one. The ticket is valid until the TPM is
// cleared, so the signature is verified once.
func (a *authorizeAssertion) run(r *runner) error {
	approved, err := r.current()
	if err != nil {
		return err
	}
	if bytes.Equal(a.approved, approved) {
		err := r.authorize(a)
		if !hasCode(err, tpm2.TPMRCTicket, tpm2.TPMRCValue) {
			return err
		}
		a.approved = nil // the TPM was cleared
	}
	if err := a.verify(r, approved); err != nil {
		return err
	}
	return asUnmet(r.authorize(a), "the TPM refuses TPM2_PolicyAuthorize")
}

func (r *runner) authorize(a *authorizeAssertion) error {
	if err := r.step(); err != nil {
		return err
	}
	session, err := r.session.Extend()
	if err != nil {
		return err
	}
	_, err = do(r.tpm, tpm2.PolicyAuthorize{
		PolicySession: session, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: a.approved},
		PolicyRef: tpm2.TPM2BDigest{Buffer: a.ref}, KeySign: tpm2.TPM2BName{Buffer: a.name}, CheckTicket: a.ticket,
	})
	return err
}

// verify lets the TPM verify the signature, which gives the ticket. TPM 2.0 Library Part 3,
// sections 12.3 (TPM2_LoadExternal) and 20.1 (TPM2_VerifySignature).
func (a *authorizeAssertion) verify(r *runner, approved []byte) error {
	if err := r.step(); err != nil {
		return err
	}
	signer := shortName(a.name)
	loaded, err := do(r.tpm, tpm2.LoadExternal{
		InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](a.public), Hierarchy: tpm2.TPMRHOwner})
	if err != nil {
		return asUnmet(err, "the TPM cannot load the signer's key %s", signer)
	}
	defer r.tpm.Flush(loaded.ObjectHandle)
	if !bytes.Equal(loaded.Name.Buffer, a.name) {
		return unmet(nil, "the TPM has another name for the signer's key %s", signer)
	}
	hash, err := hashOf(tpm2.TPMIAlgHash(binary.BigEndian.Uint16(a.name)))
	if err != nil {
		return err
	}
	rsp, err := do(r.tpm, tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: sum(hash, approved, a.ref)}, Signature: *a.signature, // aHash
	})
	if hasCode(err, tpm2.TPMRCSignature) {
		return unmet(err, "its signature of this policy is not by key %s", signer)
	}
	if err != nil {
		return asUnmet(err, "the TPM cannot check its signature by key %s", signer)
	}
	a.ticket, a.approved = rsp.Validation, bytes.Clone(approved)
	return nil
}

// runSigned runs the first of the signed policies that is met.
func (r *runner) runSigned(wildcard *authorizeAssertion) error {
	if len(r.branches) > maxSignedDepth {
		return unmet(nil, "it needs more than %d nested signed policies", maxSignedDepth)
	}
	var reasons []string
	missing := &Unmet{}
	for _, b := range r.policy.mostLikelyFirst() {
		err := r.runBranch(b, wildcard)
		if err == nil {
			r.signed = cmp.Or(r.signed, b)
			if len(r.branches) == 1 {
				r.policy.last = b
			}
			return nil
		}
		var why *Unmet
		if !errors.As(err, &why) && !errors.As(err, new(*WrongSecret)) {
			return err
		}
		missing.Secret = missing.Secret || why == nil || why.Secret
		reasons = append(reasons, fmt.Sprintf("%s: %v", b.name, err))
	}
	if len(reasons) == 1 {
		missing.Why = "the signed policy in the file cannot be met: " + reasons[0]
	} else {
		missing.Why = fmt.Sprintf("none of the %d signed policies in the file can be met: %s", len(reasons), strings.Join(reasons, "; "))
	}
	return missing
}

// mostLikelyFirst returns the signed policies: the one that was met last, then those that do not
// need the key's secret, because a wrong one costs a try.
func (p *Policy) mostLikelyFirst() []*branch {
	rank := func(b *branch) int {
		switch {
		case b == p.last:
			return 0
		case !b.wantsAuthValue():
			return 1
		}
		return 2
	}
	return slices.SortedStableFunc(slices.Values(p.signed), func(a, b *branch) int { return rank(a) - rank(b) })
}

// runBranch runs one signed policy after a restart of the session.
func (r *runner) runBranch(b *branch, wildcard *authorizeAssertion) error {
	if err := r.step(); err != nil {
		return err
	}
	if why, ok := r.policy.refused[b]; ok {
		return unmet(nil, "%s", why)
	}
	signature := b.signature()
	switch {
	case signature == nil:
		return unmet(nil, "it does not end with a signature")
	case !bytes.Equal(signature.name, wildcard.name):
		return unmet(nil, "it is signed by key %s, not %s", shortName(signature.name), shortName(wildcard.name))
	case !bytes.Equal(signature.ref, wildcard.ref):
		return unmet(nil, "it is signed for another key (policyRef)")
	}
	if err := b.allows(r.use.Command); err != nil {
		return err
	}
	if _, err := b.check(r.policy.hash); err != nil {
		return err
	}
	if err := r.restart(); err != nil {
		return err
	}
	return r.branch(b)
}

// printableName returns a name from a file in a form that is safe to print.
func printableName(name string) string {
	const enough = 64
	if runes := []rune(name); len(runes) > enough {
		name = string(runes[:enough]) + "…"
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == 0xfffd {
			return '?'
		}
		return c
	}, name)
}
