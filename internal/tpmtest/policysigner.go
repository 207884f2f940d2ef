package tpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// A PolicySigner signs policies of TPM 2.0 keys and makes the parts of key files with them,
// as signed_tpm2_policy of openssl_tpm2_engine does.
type PolicySigner struct {
	Public []byte // TPMT_PUBLIC
	Ref    []byte // policyRef

	key crypto.Signer
}

// NewPolicySigner returns a signer with a new key. kind is tpm2.TPMAlgRSA or
// tpm2.TPMAlgECC.
func NewPolicySigner(t testing.TB, kind tpm2.TPMAlgID) *PolicySigner {
	t.Helper()
	s := &PolicySigner{Ref: make([]byte, 32)}
	rand.Read(s.Ref)
	area := tpm2.TPMTPublic{Type: kind, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, Decrypt: kind == tpm2.TPMAlgRSA, UserWithAuth: true, NoDA: true}}
	if kind == tpm2.TPMAlgRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		s.key = key
		area.Parameters = tpm2.NewTPMUPublicParms(kind, &tpm2.TPMSRSAParms{KeyBits: 2048})
		area.Unique = tpm2.NewTPMUPublicID(kind, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	} else {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s.key = key
		area.Parameters = tpm2.NewTPMUPublicParms(kind, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		area.Unique = tpm2.NewTPMUPublicID(kind, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: padded(key.X)}, Y: tpm2.TPM2BECCParameter{Buffer: padded(key.Y)},
		})
	}
	s.Public = tpm2.Marshal(area)
	return s
}

func padded(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// Opening returns TPM2_PolicyAuthorize without a signature. It begins the policy of a key
// whose policies s signs.
func (s *PolicySigner) Opening() []byte {
	return slices.Concat(sized(s.Public), sized(s.Ref), []byte{0, 0x10}) // TPM_ALG_NULL
}

// Closing returns TPM2_PolicyAuthorize with the signature. It ends a policy that s signs.
// approved is the policy's digest.
func (s *PolicySigner) Closing(t testing.TB, approved []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(append(slices.Clone(approved), s.Ref...))
	var sig []byte
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		b, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		sig = slices.Concat([]byte{0, 0x14, 0, 0x0b}, sized(b)) // TPM_ALG_RSASSA, SHA-256
	case *ecdsa.PrivateKey:
		r, ss, err := ecdsa.Sign(rand.Reader, key, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		sig = slices.Concat([]byte{0, 0x18, 0, 0x0b}, sized(padded(r)), sized(padded(ss))) // TPM_ALG_ECDSA, SHA-256
	}
	return slices.Concat(sized(s.Public), sized(s.Ref), sig)
}
