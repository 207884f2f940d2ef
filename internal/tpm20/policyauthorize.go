package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// An authorizeTerm is TPM2_PolicyAuthorize: somebody has signed the policy that comes
// before it.
//
// TPM 2.0 Library Part 3, section 23.16
type authorizeTerm struct {
	public    []byte // TPMT_PUBLIC of the signer
	name      []byte
	ref       []byte
	signature *tpm2.TPMTSignature // nil: a signed policy brings it

	ticket   tpm2.TPMTTKVerified // that the TPM has checked the signature
	approved []byte              // of this digest; nil: not yet
}

func newAuthorizeTerm(body []byte) (*authorizeTerm, error) {
	s := cryptobyte.String(body)
	var public, ref cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&public) || !s.ReadUint16LengthPrefixed(&ref) {
		return nil, errors.New("it is not a public key, a policyRef and a signature")
	}
	if len(ref) > maxName {
		return nil, errors.New("its policyRef is longer than any digest")
	}
	if len(public) < 4 {
		return nil, errors.New("its public key ends too early")
	}
	alg := tpm2.TPMIAlgHash(binary.BigEndian.Uint16(public[2:]))
	hash, err := policyHash(alg)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	t := &authorizeTerm{public: public, ref: ref}
	t.name = append(binary.BigEndian.AppendUint16(nil, uint16(alg)), digestOf(hash, public)...)
	t.signature, err = readSignature(s)
	return t, err
}

// readSignature reads a TPMT_SIGNATURE, nil for an empty one. TPM 2.0 Library Part 2,
// section 11.3.4.
func readSignature(b []byte) (*tpm2.TPMTSignature, error) {
	if len(b) == 2 && tpm2.TPMAlgID(binary.BigEndian.Uint16(b)) == tpm2.TPMAlgNull {
		return nil, nil
	}
	return signatureOf(b)
}

func (t *authorizeTerm) hasSignature() bool { return t.signature != nil }

// keyName is the signer's name, as much of it as tells keys apart.
func (t *authorizeTerm) keyName() string { return shortName(t.name) }

func (t *authorizeTerm) extend(d policyDigest) policyDigest {
	return d.reset().extendTwice(tpm2.TPMCCPolicyAuthorize, t.name, t.ref)
}

func (t *authorizeTerm) check(policyDigest) error { return nil }

// run takes the digest that the session has for a signed one. The ticket is good for
// as long as the TPM has its owner hierarchy, so that a signature is checked once.
func (t *authorizeTerm) run(r *policyRun) error {
	approved, err := r.current()
	if err != nil {
		return err
	}
	if bytes.Equal(t.approved, approved) {
		err := r.authorize(t)
		if !says(err, tpm2.TPMRCTicket, tpm2.TPMRCValue) {
			return err
		}
		t.approved = nil // the TPM was cleared
	}
	if err := t.verify(r, approved); err != nil {
		return err
	}
	return r.explain(r.authorize(t), "the TPM refuses TPM2_PolicyAuthorize")
}

func (r *policyRun) authorize(t *authorizeTerm) error {
	if err := r.step(); err != nil {
		return err
	}
	r.session.ran = true
	_, err := Run(r.conn, tpm2.PolicyAuthorize{
		PolicySession: r.session.handle, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: t.approved},
		PolicyRef: tpm2.TPM2BDigest{Buffer: t.ref}, KeySign: tpm2.TPM2BName{Buffer: t.name}, CheckTicket: t.ticket,
	})
	return err
}

// verify has the TPM check the signature, for the ticket. The key is loaded for that
// alone.
//
// TPM 2.0 Library Part 3, sections 12.3 (TPM2_LoadExternal) and 20.1
// (TPM2_VerifySignature)
func (t *authorizeTerm) verify(r *policyRun, approved []byte) error {
	if err := r.step(); err != nil {
		return err
	}
	loaded, err := Run(r.conn, tpm2.LoadExternal{
		InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](t.public), Hierarchy: tpm2.TPMRHOwner})
	if err != nil {
		return r.explain(err, "the TPM cannot load the signer's key %s", t.keyName())
	}
	defer r.conn.Flush(loaded.ObjectHandle)
	if !bytes.Equal(loaded.Name.Buffer, t.name) {
		return unmet(nil, "the TPM has another name for the signer's key %s", t.keyName())
	}
	rsp, err := Run(r.conn, tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: t.signed(approved)}, Signature: *t.signature,
	})
	if says(err, tpm2.TPMRCSignature) {
		return unmet(err, "its signature is not one of this policy by key %s", t.keyName())
	}
	if err != nil {
		return r.explain(err, "the TPM cannot check its signature by key %s", t.keyName())
	}
	t.ticket, t.approved = rsp.Validation, bytes.Clone(approved)
	return nil
}

// signed is the digest that is signed: aHash, by the hash algorithm of the signer's
// name.
func (t *authorizeTerm) signed(approved []byte) []byte {
	hash, _ := tpm2.TPMIAlgHash(binary.BigEndian.Uint16(t.name)).Hash() // newAuthorizeTerm has checked it
	return digestOf(hash, approved, t.ref)
}

// approve runs the first of the signed policies that can be met; the one that was
// met last is tried first.
func (r *policyRun) approve(opening *authorizeTerm) error {
	if len(r.branches) > maxSignedDepth {
		return unmet(nil, "it wants more than %d signed policies one after the other", maxSignedDepth)
	}
	var reasons []string
	missing := &Unmet{}
	for _, b := range r.policy.lastFirst() {
		err := r.try(b, opening)
		if err == nil {
			if len(r.branches) == 1 {
				r.policy.last = b
			}
			return nil
		}
		var why *Unmet
		if !errors.As(err, &why) {
			return err
		}
		missing.Secret = missing.Secret || why.Secret
		reasons = append(reasons, fmt.Sprintf("%s: %v", b.name, err))
	}
	if len(reasons) == 1 {
		missing.Why = "the signed policy in the file cannot be met: " + reasons[0]
	} else {
		missing.Why = fmt.Sprintf("none of the %d signed policies in the file can be met: %s", len(reasons), strings.Join(reasons, "; "))
	}
	return missing
}

// lastFirst are the signed policies, the one that was met last first.
func (p *Policy) lastFirst() []*branch {
	if p.last == nil {
		return p.signed
	}
	list := []*branch{p.last}
	for _, b := range p.signed {
		if b != p.last {
			list = append(list, b)
		}
	}
	return list
}

// try runs one signed policy in a session that is like new.
func (r *policyRun) try(b *branch, opening *authorizeTerm) error {
	if err := r.step(); err != nil {
		return err
	}
	closing := b.closing()
	switch {
	case closing == nil:
		return unmet(nil, "it does not end with a signature")
	case !bytes.Equal(closing.name, opening.name):
		return unmet(nil, "it is signed by key %s, not %s", closing.keyName(), opening.keyName())
	case !bytes.Equal(closing.ref, opening.ref):
		return unmet(nil, "it is signed for another key than this (policyRef)")
	}
	if !b.allows(r.use.Command) {
		return notAllowed(r.use.Command)
	}
	if err := b.check(r.policy.alg); err != nil {
		return err
	}
	if err := r.restart(); err != nil {
		return err
	}
	return r.branch(b)
}

// printableName is a name from a file, as it can be shown.
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
