package chip

import (
	"crypto"

	"maclef/blob"
	"maclef/internal/policy"
)

// A KeyType is an algorithm and a key size.
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

// A Spec describes a key file to make: for a new key, for an existing key (Wrap), or for data
// (Seal).
type Spec struct {
	Type      KeyType // empty means RSA2048
	Bits      int     // TPM 1.2: 0 means the size of Type
	EncScheme blob.EncScheme
	SigScheme blob.SigScheme

	Wrap crypto.PrivateKey // nil for a new key
	Seal []byte            // nil for a key

	Secret    bool          // the key gets a secret
	Migration bool          // a migration secret was given
	Policy    []policy.Step // nil for none
	Parent    uint32        // TPM 2.0: a handle; 0 means the owner's hierarchy
	// MovableParent is LoadOptions.MovableParent of package tpmkey.
	MovableParent bool
}

// Secrets are the secrets for a command. A nil one is not needed or not given.
type Secrets struct {
	Parent    AuthData // of the parent; for TakeOwnership, of the new SRK
	Owner     AuthData
	Key       AuthData // of the new key
	Migration AuthData
}

// Clear overwrites the secrets.
func (s *Secrets) Clear() {
	for _, auth := range []AuthData{s.Parent, s.Owner, s.Key, s.Migration} {
		clear(auth)
	}
}
