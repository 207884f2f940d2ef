package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// TSS2Template describes a new TPM 2.0 object. Its zero value is an RSA key of 2048 bits without a
// secret.
type TSS2Template struct {
	// Type is rsa2048 (also when empty), rsa3072, rsa4096, p256, p384 or p521, or
	// "sealed" for data.
	Type string
	// AuthPolicy is the SHA-256 digest of a policy, empty if there is none. With a policy the
	// secret alone is not enough.
	AuthPolicy []byte
	// NeedSecret says that the object has a secret, which is passed in the command that creates the
	// object. Wrong secrets count towards the TPM's lockout.
	NeedSecret bool
	// NoDA exempts the object from the TPM's lockout. Objects without a secret are always exempt,
	// because a lockout would block them, too.
	NoDA bool
}

// MaxSealed is the most bytes of data that can be sealed to a TPM 2.0.
//
// TPM 2.0 Library Part 2, section 11.1.12 (MAX_SYM_DATA)
const MaxSealed = 128

// tss2Types are the key types of TSS2Template.
var tss2Types = []string{"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521"}

// typeSealed is the type for data in TSS2Template.
const typeSealed = "sealed"

var typeCurves = map[string]tpm2.TPMECCCurve{
	"p256": tpm2.TPMECCNistP256,
	"p384": tpm2.TPMECCNistP384,
	"p521": tpm2.TPMECCNistP521,
}

var typeBits = map[string]tpm2.TPMKeyBits{"": 2048, "rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}

// NewTSS2Template returns the public area (TPMT_PUBLIC) for TPM2_Create. The key stays in its TPM,
// and signs and decrypts (ECC: agrees on secrets) with any scheme. It returns an error if such an
// object is impossible.
//
// TPM 2.0 Library Part 3, section 12.1 (TPM2_Create)
func NewTSS2Template(t TSS2Template) ([]byte, error) {
	area, err := t.area()
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(area), nil
}

func (t TSS2Template) area() (*tpm2.TPMTPublic, error) {
	area := &tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256}
	attributes := &area.ObjectAttributes
	attributes.FixedTPM, attributes.FixedParent = true, true
	attributes.SensitiveDataOrigin = t.Type != typeSealed
	if t.Type == "" {
		t.Type = "rsa2048"
	}
	switch bits, isRSA := typeBits[t.Type]; {
	case isRSA:
		pubarea.SetRSA(area, bits, 0, nil)
	case slices.Contains(tss2Types, t.Type):
		pubarea.SetECC(area, typeCurves[t.Type], nil, nil)
	case t.Type == typeSealed:
		setSealed(area)
	default:
		return nil, fmt.Errorf("there is no type of TPM 2.0 key %q; use one of %s", t.Type, strings.Join(tss2Types, ", "))
	}
	return area, t.authorize(area)
}

// authorize sets who may use the object.
func (t TSS2Template) authorize(area *tpm2.TPMTPublic) error {
	if n := len(t.AuthPolicy); n != 0 && n != sha256.Size {
		return fmt.Errorf("the policy's digest has %d bytes, and one of SHA-256 has %d", n, sha256.Size)
	}
	area.AuthPolicy.Buffer = slices.Clone(t.AuthPolicy)
	area.ObjectAttributes.UserWithAuth = len(t.AuthPolicy) == 0
	area.ObjectAttributes.NoDA = t.NoDA || !t.NeedSecret
	return nil
}

func setSealed(area *tpm2.TPMTPublic) {
	area.Type = tpm2.TPMAlgKeyedHash
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
		Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})
}

// NewTSS2 makes a key file from the reply of TPM2_Create, that is, both TPM2B structures with their
// sizes, and the other given fields. The error wraps [ErrDamaged].
func NewTSS2(file TSS2) (*TSS2, error) {
	if file.Handle != 0 {
		return nil, errors.New("a key that stays in its TPM has no file")
	}
	t := file.clone()
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// clone copies t without the fields that describe a parsed file.
func (t *TSS2) clone() *TSS2 {
	u := &TSS2{
		Type: t.Type, EmptyAuth: t.EmptyAuth, Description: t.Description, RSAParent: t.RSAParent, Parent: t.Parent,
		Policy:  clonePolicy(t.Policy),
		Secret:  slices.Clone(t.Secret),
		Public:  slices.Clone(t.Public),
		Private: slices.Clone(t.Private),
	}
	for _, p := range t.AuthPolicy {
		u.AuthPolicy = append(u.AuthPolicy, AuthPolicy{Name: p.Name, Policy: clonePolicy(p.Policy)})
	}
	return u
}
