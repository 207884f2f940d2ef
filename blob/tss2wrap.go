package blob

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// TSS2Wrap describes the key file of a wrapped software key.
type TSS2Wrap struct {
	// Parent is the handle of the parent: a persistent handle (0x81…), or a hierarchy for its
	// primary key (0x40…; 0 means the owner hierarchy).
	Parent uint32
	// RSAParent says that the primary key is RSA.
	RSAParent bool
	// Auth is the key's secret, empty if it has none; at most 32 bytes.
	Auth []byte
	// NoDA makes wrong tries of Auth not count towards the TPM's lockout.
	NoDA bool
	// Policy controls the use of the key, if set. AuthPolicy is its SHA-256 digest.
	Policy      []PolicyCommand
	AuthPolicy  []byte
	Description string
}

// WrapTSS2 makes an importable key file from a software key. It encrypts the private part for
// parent, the public area (TPMT_PUBLIC) of a storage key in the target TPM. The key signs and
// decrypts (ECC: agrees on secrets) with any scheme.
//
// priv is an *rsa.PrivateKey of 1024, 2048, 3072 or 4096 bits with two primes, or an
// *ecdsa.PrivateKey on P-256, P-384 or P-521. The target TPM may lack the size or curve. random nil
// means [rand.Reader]. Errors say what in priv, parent or opts does not fit, but never contain a
// value of priv.
//
// TPM 2.0 Library Part 1, section 23.3 (Duplication); Part 3, section 13.3 (TPM2_Import)
func WrapTSS2(random io.Reader, priv crypto.PrivateKey, parent []byte, opts TSS2Wrap) (*Key, error) {
	area, sensitive, err := splitPrivate(priv)
	if err != nil {
		return nil, err
	}
	defer clearSensitive(sensitive)
	if err := opts.authorize(area); err != nil {
		return nil, err
	}
	sensitive.AuthValue.Buffer = append([]byte(nil), opts.Auth...)
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, err
	}
	duplicate, seed, err := duplicate(random, parent, name.Buffer, sensitive)
	if err != nil {
		return nil, err
	}
	if opts.Parent == 0 {
		opts.Parent = handleOwner
	}
	return NewTSS2(TSS2{
		Type:        TSS2Importable,
		EmptyAuth:   len(opts.Auth) == 0,
		Policy:      opts.Policy,
		Secret:      appendSized16(nil, seed),
		Description: opts.Description,
		RSAParent:   opts.RSAParent,
		Parent:      opts.Parent,
		Public:      appendSized16(nil, tpm2.Marshal(area)),
		Private:     appendSized16(nil, duplicate),
	})
}

// authorize sets who may use the key.
func (o TSS2Wrap) authorize(area *tpm2.TPMTPublic) error {
	tmpl := TSS2Template{NeedSecret: len(o.Auth) > 0, NoDA: o.NoDA, AuthPolicy: o.AuthPolicy}
	if len(o.Auth) > pubarea.HashSizes[area.NameAlg] {
		return fmt.Errorf("the secret of the key to wrap has %d bytes, and a TPM 2.0 takes %d", len(o.Auth), pubarea.HashSizes[area.NameAlg])
	}
	if (len(o.Policy) > 0) != (len(o.AuthPolicy) > 0) {
		return errors.New("the policy of the key to wrap and its digest (authPolicy) go together")
	}
	return tmpl.authorize(area)
}

func appendSized16(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// duplicate encrypts a sensitive area for a parent, without an inner wrapper.
func duplicate(random io.Reader, parent []byte, name []byte, sensitive *tpm2.TPMTSensitive) (duplicate, seed []byte, err error) {
	if random == nil {
		random = rand.Reader
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](parent)
	if err != nil || !area.ObjectAttributes.Restricted || !area.ObjectAttributes.Decrypt || area.ObjectAttributes.SignEncrypt {
		return nil, nil, errors.New("the parent of the key to wrap is no storage key (restricted, decrypt); give the public area of one")
	}
	if _, err := pubarea.Parse(appendSized16(nil, parent)); err != nil {
		return nil, nil, fmt.Errorf("parent of the key to wrap: %w", err)
	}
	public, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return nil, nil, fmt.Errorf("parent of the key to wrap: %w", err)
	}
	clearText := tpm2.Marshal(sensitive)
	defer clear(clearText)
	duplicate, seed, err = tpm2.CreateDuplicate(random, public, name, clearText)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the key to wrap for its parent: %w", err)
	}
	return duplicate, seed, nil
}

// splitPrivate returns the public and the sensitive area of a software key.
func splitPrivate(priv crypto.PrivateKey) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	switch priv := priv.(type) {
	case *rsa.PrivateKey:
		return splitRSA(priv)
	case *ecdsa.PrivateKey:
		return splitECC(priv)
	}
	return nil, nil, fmt.Errorf("the key to wrap is a %T, and TPM 2.0 takes RSA and ECDSA keys", priv)
}

func splitRSA(priv *rsa.PrivateKey) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	if err := checkPrivate(priv, tpm20, 1024, 2048, 3072, 4096); err != nil {
		return nil, nil, err
	}
	if priv.E > math.MaxInt32 {
		return nil, nil, fmt.Errorf("the public exponent of the key to wrap is above %d", math.MaxInt32)
	}
	bits := priv.N.BitLen()
	exponent := uint32(priv.E)
	if exponent == defaultExponent {
		exponent = 0
	}
	area := &tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256}
	setRSA(area, tpm2.TPMKeyBits(bits), exponent, priv.N.FillBytes(make([]byte, bits/8)))
	prime := priv.Primes[0].FillBytes(make([]byte, bits/16))
	return area, &tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgRSA,
		Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: prime}),
	}, nil
}

func splitECC(priv *ecdsa.PrivateKey) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	if priv == nil || priv.Curve == nil || priv.D == nil {
		return nil, nil, errors.New("the key to wrap is no complete ECDSA private key")
	}
	curve := map[elliptic.Curve]tpm2.TPMECCCurve{
		elliptic.P256(): tpm2.TPMECCNistP256,
		elliptic.P384(): tpm2.TPMECCNistP384,
		elliptic.P521(): tpm2.TPMECCNistP521,
	}[priv.Curve]
	if curve == tpm2.TPMECCNone {
		return nil, nil, fmt.Errorf("the key to wrap is on the curve %s; P-256, P-384 and P-521 can be wrapped", priv.Curve.Params().Name)
	}
	// ECDH checks range and point, and returns fixed-length copies.
	k, err := priv.ECDH()
	if err != nil {
		return nil, nil, errors.New("the private and public part of the key to wrap are no key of their curve; take a good copy of the key")
	}
	point, size := k.PublicKey().Bytes(), pubarea.Curves[curve].Size
	given, err := priv.PublicKey.ECDH()
	if err != nil || !given.Equal(k.PublicKey()) {
		return nil, nil, errors.New("the private and public part of the key to wrap do not belong together; take a good copy of the key")
	}
	area := &tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256}
	setECC(area, curve, point[1:1+size], point[1+size:])
	return area, &tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgECC,
		Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: k.Bytes()}),
	}, nil
}

// clearSensitive overwrites the secrets in s.
func clearSensitive(s *tpm2.TPMTSensitive) {
	clear(s.AuthValue.Buffer)
	if d, err := s.Sensitive.ECC(); err == nil {
		clear(d.Buffer)
	}
	if p, err := s.Sensitive.RSA(); err == nil {
		clear(p.Buffer)
	}
}

// CheckWrapTSS2 returns why [WrapTSS2] cannot make a key file from priv, whatever the parent.
func CheckWrapTSS2(priv crypto.PrivateKey) error {
	_, sensitive, err := splitPrivate(priv)
	if err == nil {
		clearSensitive(sensitive)
	}
	return err
}
