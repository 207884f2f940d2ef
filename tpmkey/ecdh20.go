package tpmkey

import (
	"crypto/ecdh"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// checkAgree allows what TPM2_ECDH_ZGen can do: a key agreement on the key's own
// curve. It returns the other side's point as SEC 1 has it, uncompressed. TPM 2.0
// Library Part 3, section 14.5 (TPM2_ECDH_ZGen).
func (k *abilities20) checkAgree(remote *ecdh.PublicKey) ([]byte, error) {
	switch a := k.area.ObjectAttributes; {
	case k.ecdsa == nil:
		return nil, fmt.Errorf("%w: an RSA key cannot agree on a secret (ECDH)", ErrNotSupported)
	case a.Restricted || !a.Decrypt:
		return nil, k.cannotDecrypt("agree on a secret (ECDH)")
	case k.scheme.alg != tpm2.TPMAlgNull && k.scheme.alg != tpm2.TPMAlgECDH:
		return nil, fmt.Errorf("%w: a key of scheme %v cannot agree on a secret (ECDH)", ErrNotSupported, k.scheme)
	case !k.may(tpm2.TPMCCECDHZGen):
		return nil, k.notAllowed("agree on a secret (TPM2_ECDH_ZGen)")
	case remote == nil:
		return nil, fmt.Errorf("%w: the other side's public key is a nil pointer", ErrNotSupported)
	}
	own, err := k.ecdsa.ECDH()
	if err != nil {
		return nil, fmt.Errorf("%w: Go refuses this key: %w", ErrNotSupported, err)
	}
	if remote.Curve() != own.Curve() {
		return nil, fmt.Errorf("%w: the other side's key is on %v, this one on %v", ErrNotSupported, remote.Curve(), own.Curve())
	}
	return remote.Bytes(), nil
}
