package chip

import (
	"crypto"

	"maclef/blob"
	"maclef/internal/policy"
)

// A KeyType is an algorithm with the size of its keys.
type KeyType string

// The types of keys.
const (
	RSA512  KeyType = "rsa512"
	RSA1024 KeyType = "rsa1024"
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
	RSA4096 KeyType = "rsa4096"
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	P521    KeyType = "p521"
)

// A Spec says what key file to make: of a key that the TPM makes, of one that exists
// (Wrap), or of data (Seal).
type Spec struct {
	Type      KeyType // empty for RSA2048
	Bits      int     // TPM 1.2: 0 for what Type says
	EncScheme blob.EncScheme
	SigScheme blob.SigScheme

	Wrap crypto.PrivateKey // nil for a new key
	Seal []byte            // nil for a key

	Secret    bool                  // it gets a secret of its own
	Migration bool                  // a secret was given for moving it to another TPM
	PCRs      []policy.PCRSelection // the policy: that these have the values they have now
	Parent    uint32                // TPM 2.0: a handle; 0 for the owner's hierarchy
}

// Secrets are those that a command takes; nil for one that it does not take.
type Secrets struct {
	Parent    AuthData // of the parent, or the new SRK
	Owner     AuthData
	Key       AuthData // of the new key
	Migration AuthData
}

// Clear overwrites them.
func (s *Secrets) Clear() {
	for _, auth := range []AuthData{s.Parent, s.Owner, s.Key, s.Migration} {
		clear(auth)
	}
}
