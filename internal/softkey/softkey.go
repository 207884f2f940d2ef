// Package softkey checks the private keys that are to be wrapped for a TPM, and converts them to
// the structures of a TPM.
package softkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// Check returns the reason if no TPM 2.0 can import the key.
func Check(priv crypto.PrivateKey) error {
	_, sensitive, err := Split(priv)
	if err == nil {
		Clear(sensitive)
	}
	return err
}

// Split returns the public and the sensitive area of a key for a TPM 2.0. Clear the sensitive
// area after use.
//
// TPM 2.0 Library Part 2, sections 12.2.4 (TPMT_PUBLIC) and 12.3.2.4 (TPMT_SENSITIVE)
func Split(priv crypto.PrivateKey) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	switch priv := priv.(type) {
	case *rsa.PrivateKey:
		return splitRSA(priv)
	case *ecdsa.PrivateKey:
		return splitECC(priv)
	}
	return nil, nil, fmt.Errorf("the key to wrap is a %T, and TPM 2.0 takes RSA and ECDSA keys", priv)
}

func splitRSA(priv *rsa.PrivateKey) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	if err := CheckRSA(priv, "TPM 2.0", 1024, 2048, 3072, 4096); err != nil {
		return nil, nil, err
	}
	// The TPM's reference code refuses 3 and 5 (CryptValidateKeys), though TPM 2.0 Library Part 2,
	// section 12.2.3.5 (TPMS_RSA_PARMS) allows them.
	if priv.E < 7 || priv.E > math.MaxInt32 {
		return nil, nil, fmt.Errorf("the public exponent of the key to wrap is %d, and a TPM 2.0 takes 65537, some also others from 7 to %d", priv.E, math.MaxInt32)
	}
	bits := priv.N.BitLen()
	exponent := uint32(priv.E)
	if exponent == 65537 {
		exponent = 0
	}
	area := &tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256}
	pubarea.SetRSA(area, tpm2.TPMKeyBits(bits), exponent, priv.N.FillBytes(make([]byte, bits/8)))
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
	// ECDH checks range and point, and gives fixed-length copies.
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
	pubarea.SetECC(area, curve, point[1:1+size], point[1+size:])
	return area, &tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgECC,
		Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: k.Bytes()}),
	}, nil
}

// Clear overwrites the secrets in s.
func Clear(s *tpm2.TPMTSensitive) {
	clear(s.AuthValue.Buffer)
	if d, err := s.Sensitive.ECC(); err == nil {
		clear(d.Buffer)
	}
	if p, err := s.Sensitive.RSA(); err == nil {
		clear(p.Buffer)
	}
}

// CheckRSA tells whether a TPM of a generation, which has some sizes of keys, can
// hold priv. rsa.PrivateKey.Validate would refuse small keys, which TPMs have.
func CheckRSA(priv *rsa.PrivateKey, generation string, sizes ...int) error {
	if priv == nil || priv.N == nil || priv.D == nil {
		return errors.New("the key to wrap is no complete RSA private key")
	}
	n := priv.N.BitLen()
	switch {
	case !slices.Contains(sizes, n):
		return fmt.Errorf("the key to wrap has %d bits, and %s takes %s", n, generation, orList(sizes))
	case len(priv.Primes) != 2:
		return fmt.Errorf("the key to wrap has %d primes, and %s takes 2", len(priv.Primes), generation)
	case priv.E < 3 || priv.E&1 == 0:
		return errors.New("the public exponent of the key to wrap is not an odd number from 3 on; take a good copy of the key")
	}
	e, one := big.NewInt(int64(priv.E)), big.NewInt(1)
	for _, p := range priv.Primes {
		if p == nil || p.Sign() <= 0 || p.BitLen() != n/2 || !p.ProbablyPrime(20) {
			return fmt.Errorf("the key to wrap is not made of two primes of %d bits; take a good copy of the key", n/2)
		}
		// d is the inverse of e modulo p-1 exactly if d·e leaves 1.
		order := new(big.Int).Sub(p, one)
		de := new(big.Int).Mul(e, priv.D)
		if de.Mod(de, order).Cmp(one) != 0 {
			return errors.New("the private and public exponents of the key to wrap do not belong together; take a good copy of the key")
		}
	}
	product := new(big.Int).Mul(priv.Primes[0], priv.Primes[1])
	if product.Cmp(priv.N) != 0 {
		return errors.New("the modulus of the key to wrap is not the product of its primes; take a good copy of the key")
	}
	return nil
}

// orList writes numbers as "1, 2 or 3".
func orList(numbers []int) string {
	words := strings.Fields(strings.Trim(fmt.Sprint(numbers), "[]"))
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
