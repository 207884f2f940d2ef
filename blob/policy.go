package blob

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// PolicyPCR is what TPM2_PolicyPCR compares.
type PolicyPCR struct {
	Selection tpm2.TPMLPCRSelection
	Digest    []byte // of the values of all selected PCRs
}

// PolicySecret is whose secret TPM2_PolicySecret asks for.
type PolicySecret struct {
	Handle uint32 // where the object probably is, 0 if that is not known
	Name   []byte
	Ref    []byte
}

// PolicyAuthorize is what TPM2_PolicyAuthorize asks for: that the owner of a key signed
// the policy met so far.
type PolicyAuthorize struct {
	Public    []byte // TPM2B_PUBLIC of the key that signs
	Ref       []byte
	Signature []byte // TPMT_SIGNATURE; of TPM_ALG_NULL where any policy that is signed will do
}

// PCR takes apart the parameters of a TPM2_PolicyPCR. alg is the name algorithm of the
// key, which tells how long the digest is. Files have two forms, the selection with the
// bare digest behind it, as it is hashed, and that of the wire, the digest with its size
// before the selection.
//
// TPM 2.0 Library Part 3, section 23.7 (TPM2_PolicyPCR)
func (c PolicyCommand) PCR(alg tpm2.TPMAlgID) (*PolicyPCR, error) {
	if err := c.expect(tpm2.TPMCCPolicyPCR); err != nil {
		return nil, err
	}
	size := pubarea.HashSizes[alg]
	r := c.reader()
	p := &PolicyPCR{Selection: r.pcrSelections()}
	p.Digest = r.Bytes("PCR digest", size)
	if r.End("PolicyPCR") == nil && size > 0 && len(p.Selection.PCRSelections) > 0 {
		return p, nil
	}
	r = c.reader()
	p = &PolicyPCR{Digest: r.Sized16("PCR digest"), Selection: r.pcrSelections()}
	if err := r.End("PolicyPCR"); err != nil {
		return nil, err
	}
	if len(p.Digest) != 0 && len(p.Digest) != size {
		return nil, damaged("digest of PolicyPCR has %d bytes, and one of %s has %d", len(p.Digest), pubarea.AlgSpec(alg), size)
	}
	return p, nil
}

// pcrSelections reads a TPML_PCR_SELECTION.
//
// TPM 2.0 Library Part 2, section 10.9.7 (TPML_PCR_SELECTION)
func (r *reader) pcrSelections() (list tpm2.TPMLPCRSelection) {
	n := r.Uint32("number of PCR banks")
	if r.Err == nil && n > 16 {
		r.Err = damaged("PCR selection has %d banks, more than any TPM", n)
	}
	for range n {
		if r.Err != nil {
			return list
		}
		bank := tpm2.TPMSPCRSelection{Hash: r.Alg("PCR bank")}
		size := r.Uint8("PCR selection size")
		if r.Err == nil && size > maxPCRSelect {
			r.Err = damaged("PCR selection has %d bytes, more PCRs than any TPM has", size)
		}
		bank.PCRSelect = r.Bytes("PCR selection", int(size))
		list.PCRSelections = append(list.PCRSelections, bank)
	}
	return list
}

// Secret takes apart the parameters of a TPM2_PolicySecret as files have them: handle,
// name and policyRef.
//
// draft-bottomley-tpm2-keys, section 4.2.2 (TPM2_PolicySecret)
func (c PolicyCommand) Secret() (*PolicySecret, error) {
	if err := c.expect(tpm2.TPMCCPolicySecret); err != nil {
		return nil, err
	}
	r := c.reader()
	p := &PolicySecret{
		Handle: r.Uint32("handle"),
		Name:   r.Sized16("name"),
		Ref:    r.Sized16("policyRef"),
	}
	if r.Err == nil && len(p.Name) < 4 {
		r.Err = damaged("PolicySecret names its object with %d bytes, and names have 4 or more", len(p.Name))
	}
	return p, r.End("PolicySecret")
}

// Authorize takes apart the parameters of a TPM2_PolicyAuthorize as files have them: the
// public area of the key that signs, policyRef and signature.
//
// draft-bottomley-tpm2-keys, section 4.2.1 (TPM2_PolicyAuthorize)
func (c PolicyCommand) Authorize() (*PolicyAuthorize, error) {
	if err := c.expect(tpm2.TPMCCPolicyAuthorize); err != nil {
		return nil, err
	}
	r := c.reader()
	area := r.Sized16("keySign")
	p := &PolicyAuthorize{Ref: r.Sized16("policyRef")}
	p.Signature = r.signature()
	if err := r.End("PolicyAuthorize"); err != nil {
		return nil, err
	}
	p.Public = append(binary.BigEndian.AppendUint16(nil, uint16(len(area))), area...)
	if _, err := pubarea.Parse(p.Public); err != nil {
		return nil, fmt.Errorf("key of PolicyAuthorize: %w", err)
	}
	return p, nil
}

// Signed reports whether there is a signature in it.
func (p *PolicyAuthorize) Signed() bool { return len(p.Signature) > 2 }

// Name returns the name of the key that signs.
func (p *PolicyAuthorize) Name() ([]byte, error) { return (&TSS2{Public: p.Public}).Name() }

// signature reads a TPMT_SIGNATURE and returns it whole.
//
// TPM 2.0 Library Part 2, section 11.3.4 (TPMT_SIGNATURE)
func (r *reader) signature() []byte {
	all := r.Rest()
	switch alg := r.Alg("sigAlg"); alg {
	case tpm2.TPMAlgNull:
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS:
		r.Uint16("signature hash")
		r.Sized16("signature")
	case tpm2.TPMAlgECDSA, tpm2.TPMAlgECDAA, tpm2.TPMAlgSM2, tpm2.TPMAlgECSchnorr:
		r.Uint16("signature hash")
		r.Sized16("signature R")
		r.Sized16("signature S")
	case tpm2.TPMAlgHMAC:
		hash := r.Alg("signature hash")
		r.Bytes("signature", pubarea.HashSizes[hash])
	default:
		if r.Err == nil {
			r.Err = damaged("signature of PolicyAuthorize has the algorithm %s", pubarea.AlgSpec(alg))
		}
	}
	if r.Err != nil {
		return nil
	}
	return append([]byte(nil), all[:len(all)-len(r.Rest())]...)
}

func (c PolicyCommand) reader() *reader {
	return newReader(c.Policy, ErrDamaged)
}

func (c PolicyCommand) expect(code tpm2.TPMCC) error {
	if c.Code != code {
		return fmt.Errorf("policy command is %s, not %s", policyName(c.Code), policyName(code))
	}
	return nil
}

// Wire returns the parameters as they go over the wire behind the handle of the
// session, whatever form the file has. The error says that a command has other handles
// too, or parameters that are not in a file: TPM2_PolicySecret, TPM2_PolicyAuthorize,
// TPM2_PolicySigned, TPM2_PolicyNV and their like. alg is the name algorithm of the key.
func (c PolicyCommand) Wire(alg tpm2.TPMAlgID) ([]byte, error) {
	switch c.Code {
	case tpm2.TPMCCPolicyPCR:
		p, err := c.PCR(alg)
		if err != nil {
			return nil, err
		}
		wire := appendSized16(nil, p.Digest)
		return append(wire, tpm2.Marshal(p.Selection)...), nil
	case tpm2.TPMCCPolicyCounterTimer:
		operand, rest, err := c.counterTimer()
		if err != nil {
			return nil, err
		}
		return append(appendSized16(nil, operand), rest...), nil
	}
	if _, err := c.hashed(alg); err != nil {
		return nil, err
	}
	switch c.Code {
	case tpm2.TPMCCPolicySecret, tpm2.TPMCCPolicyAuthorize:
		return nil, fmt.Errorf("%s takes more than what its file has", policyName(c.Code))
	}
	return append([]byte(nil), c.Policy...), nil
}

func appendSized16(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}
