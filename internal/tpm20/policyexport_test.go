package tpm20

import (
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// PolicyDigest is the authPolicy of a key made with these commands, which software
// must be able to tell.
func PolicyDigest(alg tpm2.TPMIAlgHash, commands ...PolicyCommand) ([]byte, error) {
	p, err := NewPolicy(alg, nil, commands, nil)
	if err != nil {
		return nil, err
	}
	d := p.digest(p.main)
	if !d.known() {
		return nil, errors.New("the digest of this policy is known to the TPM only")
	}
	return d.value, nil
}
