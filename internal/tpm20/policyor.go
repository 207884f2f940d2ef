package tpm20

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

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
