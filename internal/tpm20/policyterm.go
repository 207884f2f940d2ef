package tpm20

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A policyDigest is the digest of a policy session, computed in software. Its value is
// nil where only the TPM knows it.
//
// TPM 2.0 Library Part 1, section 19.7.2 (policyDigest)
type policyDigest struct {
	hash  crypto.Hash
	value []byte
}

// newPolicyDigest is that of a session that was just opened. alg is one of
// policyHash.
func newPolicyDigest(alg tpm2.TPMIAlgHash) policyDigest {
	hash, _ := alg.Hash()
	return policyDigest{hash, make([]byte, hash.Size())}
}

func (d policyDigest) known() bool { return d.value != nil }

// unknown is d after a command of which software cannot tell the effect.
func (d policyDigest) unknown() policyDigest { return policyDigest{d.hash, nil} }

// reset is d after a command that replaces what was before.
func (d policyDigest) reset() policyDigest {
	return policyDigest{d.hash, make([]byte, d.hash.Size())}
}

// extend is d after a command.
func (d policyDigest) extend(code tpm2.TPMCC, data ...[]byte) policyDigest {
	return d.append(append([][]byte{binary.BigEndian.AppendUint32(nil, uint32(code))}, data...)...)
}

// extendTwice is d after a command that names somebody, with its policyRef. TPM 2.0
// Library Part 3, section 23.2.3 (Policy Digest Update Function).
func (d policyDigest) extendTwice(code tpm2.TPMCC, name, ref []byte) policyDigest {
	return d.extend(code, name).append(ref)
}

func (d policyDigest) append(data ...[]byte) policyDigest {
	if !d.known() {
		return d
	}
	return policyDigest{d.hash, digestOf(d.hash, append([][]byte{d.value}, data...)...)}
}

func digestOf(hash crypto.Hash, data ...[]byte) []byte {
	h := hash.New()
	for _, b := range data {
		h.Write(b)
	}
	return h.Sum(nil)
}

// An orTerm is TPM2_PolicyOR: the digest before it must be one of a list's.
//
// TPM 2.0 Library Part 3, section 23.6
type orTerm struct {
	body    []byte // TPML_DIGEST
	digests [][]byte
}

// A TPM takes two to eight branches.
const (
	minOr = 2
	maxOr = 8
)

func newOrTerm(body []byte, size int) (*orTerm, error) {
	s := cryptobyte.String(body)
	var count uint32
	if !s.ReadUint32(&count) || count < minOr || count > maxOr {
		return nil, fmt.Errorf("it is not a list of %d to %d digests", minOr, maxOr)
	}
	t := &orTerm{body: body}
	for range count {
		var digest cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&digest) || len(digest) != size {
			return nil, fmt.Errorf("it has a digest that is not of %d bytes", size)
		}
		t.digests = append(t.digests, digest)
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%d bytes behind its digests", len(s))
	}
	return t, nil
}

func (t *orTerm) extend(d policyDigest) policyDigest {
	return d.reset().extend(tpm2.TPMCCPolicyOR, t.digests...)
}

func (t *orTerm) check(d policyDigest) error {
	if !d.known() {
		return nil
	}
	for _, digest := range t.digests {
		if bytes.Equal(digest, d.value) {
			return nil
		}
	}
	return unmet(nil, "what comes before its TPM2_PolicyOR is none of the %d branches there", len(t.digests))
}

func (t *orTerm) run(r *policyRun) error {
	err := r.send(tpm2.TPMCCPolicyOR, t.body)
	if says(err, tpm2.TPMRCValue) {
		return unmet(err, "none of the %d branches of its TPM2_PolicyOR is met%s", len(t.digests), r.asIs)
	}
	return r.explain(err, "the TPM refuses TPM2_PolicyOR")
}

// A term is one command of a policy.
//
// In a key file its body is what is sent behind the session's handle, but:
//
//	PolicyPCR           TPML_PCR_SELECTION, digest without its size; or as it is sent
//	PolicyCounterTimer  operandB without its size, offset, operation; or as it is sent
//	PolicyNV            authHandle, nvIndex, then as it is sent
//	PolicySecret        handle (0: look for it), TPM2B_NAME, TPM2B policyRef
//	PolicyAuthorize     TPM2B_PUBLIC, TPM2B policyRef, TPMT_SIGNATURE
//
// draft-bottomley-tpm2-keys, sections 4.1.2 and 4.2, has the last two; the first two
// are what openssl_tpm2_engine writes; TPM2_PolicyNV goes by what the draft says of
// handles.
type term interface {
	// extend is d after the command.
	extend(d policyDigest) policyDigest
	// check is an Unmet where the command cannot succeed after d.
	check(d policyDigest) error
	// run runs the command.
	run(r *policyRun) error
}

// newTerm reads a command. size is that of the policy's digests.
func newTerm(c PolicyCommand, size int) (term, error) {
	const maxBody = 2048 // a TPM's commands have 4096 bytes, often less
	if len(c.Body) > maxBody {
		return nil, fmt.Errorf("%d bytes, more than a TPM takes", len(c.Body))
	}
	switch c.Code {
	case tpm2.TPMCCPolicyPCR:
		return newPCRTerm(c.Body, size)
	case tpm2.TPMCCPolicyOR:
		return newOrTerm(c.Body, size)
	case tpm2.TPMCCPolicySecret:
		return newSecretTerm(c.Body)
	case tpm2.TPMCCPolicyAuthorize:
		return newAuthorizeTerm(c.Body)
	case tpm2.TPMCCPolicyNV:
		return newNVTerm(c.Body)
	case tpm2.TPMCCPolicySigned:
		return newSignedTerm(c.Body), nil
	}
	return newPlainTerm(c, size)
}

// Policy commands that go-tpm has no names for. TPM 2.0 Library Part 2 (version 1.83),
// section 6.5.2 (TPM_CC).
const (
	ccPolicyCapability tpm2.TPMCC = 0x19b
	ccPolicyParameters tpm2.TPMCC = 0x19c
)

// A plainTerm is a command that is sent as it stands.
type plainTerm struct {
	code    tpm2.TPMCC
	body    []byte // sent behind the session's handle
	hashed  []byte // what extends the digest
	opaque  bool   // its effect on the digest is not known
	allowed tpm2.TPMCC
}

// newPlainTerm refuses commands that are no policy commands: with the session's handle
// in front they may do anything.
func newPlainTerm(c PolicyCommand, size int) (term, error) {
	t := &plainTerm{code: c.Code, body: c.Body, hashed: c.Body}
	s := cryptobyte.String(c.Body)
	var err error
	switch c.Code {
	case tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPassword, tpm2.TPMCCPolicyPhysicalPresence:
		if len(c.Body) != 0 {
			err = errors.New("it has parameters, and takes none")
		}
		if c.Code == tpm2.TPMCCPolicyPassword {
			// The digest is the same, and the secret does not cross in clear. TPM 2.0
			// Library Part 3, section 23.18 (TPM2_PolicyPassword).
			t.code = tpm2.TPMCCPolicyAuthValue
		}
	case tpm2.TPMCCPolicyLocality, tpm2.TPMCCPolicyNvWritten:
		err = exactly(c.Body, 1)
	case tpm2.TPMCCPolicyCommandCode:
		if err = exactly(c.Body, 4); err == nil {
			t.allowed = tpm2.TPMCC(binary.BigEndian.Uint32(c.Body))
		}
	case tpm2.TPMCCPolicyNameHash, tpm2.TPMCCPolicyCpHash, tpm2.TPMCCPolicyTemplate:
		var digest cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&digest) || !s.Empty() || len(digest) != size {
			err = fmt.Errorf("it is not a sized digest of %d bytes", size)
		}
		t.hashed = digest
	case tpm2.TPMCCPolicyCounterTimer:
		return newTimerTerm(c.Body)
	case tpm2.TPMCCPolicyDuplicationSelect:
		err = t.duplication(s)
	case tpm2.TPMCCPolicyTicket, ccPolicyCapability, ccPolicyParameters:
		t.opaque = true
	default:
		err = errors.New("it is not one of a policy, or cannot be in a file")
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func exactly(body []byte, size int) error {
	if len(body) != size {
		return fmt.Errorf("it has %d bytes of parameters, not %d", len(body), size)
	}
	return nil
}

// duplication is TPM 2.0 Library Part 3, section 23.15 (TPM2_PolicyDuplicationSelect).
func (t *plainTerm) duplication(s cryptobyte.String) error {
	var object, parent cryptobyte.String
	var include uint8
	if !s.ReadUint16LengthPrefixed(&object) || !s.ReadUint16LengthPrefixed(&parent) ||
		!s.ReadUint8(&include) || !s.Empty() || include > 1 {
		return errors.New("it is not two names and YES or NO")
	}
	t.hashed = nil
	if include == 1 {
		t.hashed = append(t.hashed, object...)
	}
	t.hashed = append(append(t.hashed, parent...), include)
	return nil
}

func (t *plainTerm) extend(d policyDigest) policyDigest {
	if t.opaque {
		return d.unknown()
	}
	return d.extend(t.code, t.hashed)
}

func (t *plainTerm) check(policyDigest) error { return nil }

func (t *plainTerm) run(r *policyRun) error {
	authValue := t.code == tpm2.TPMCCPolicyAuthValue
	if authValue && r.use.Secret == nil {
		return &Unmet{Why: "it wants the key's secret", Secret: true}
	}
	err := r.send(t.code, t.body)
	if err == nil && authValue {
		r.session.NeedAuthValue()
	}
	return r.explain(err, "the TPM refuses %s", commandName(t.code))
}

// A signedTerm asks for a signature of the session's nonce, which no file can hold.
type signedTerm struct{ name []byte }

// newSignedTerm looks for the signer's name, in the form that files have it in for
// TPM2_PolicySecret. The draft has none for TPM2_PolicySigned.
func newSignedTerm(body []byte) term {
	if s, err := newSecretTerm(body); err == nil {
		return &signedTerm{s.name}
	}
	return &signedTerm{}
}

func (t *signedTerm) extend(d policyDigest) policyDigest { return d.unknown() }

func (t *signedTerm) check(policyDigest) error {
	if t.name == nil {
		return unmet(nil, "it asks for a new signature by somebody's key for each use (TPM2_PolicySigned), which cannot be given here")
	}
	return unmet(nil, "it asks for a signature by key %x for each use (TPM2_PolicySigned), which cannot be given here", t.name)
}

func (t *signedTerm) run(*policyRun) error { return t.check(policyDigest{}) }
