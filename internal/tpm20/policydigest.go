package tpm20

import (
	"crypto"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
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
