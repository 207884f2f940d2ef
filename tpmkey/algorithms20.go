package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// Handles of objects that are in the TPM. TPM 2.0 Library Part 2, section 7.2 (TPM_HT).
const (
	transientFirst  tpm2.TPMHandle = 0x80000000
	persistentFirst tpm2.TPMHandle = 0x81000000
	sessionsFirst   tpm2.TPMHandle = 0x02000000
	savedFirst      tpm2.TPMHandle = 0x03000000
)

// hashes20 are the hashes that a TPM 2.0 may have. TPM 2.0 Library Part 2, section 6.3
// (TPM_ALG_ID).
var hashes20 = []struct {
	alg  tpm2.TPMAlgID
	hash crypto.Hash
}{
	{tpm2.TPMAlgSHA1, crypto.SHA1}, {tpm2.TPMAlgSHA256, crypto.SHA256}, {tpm2.TPMAlgSHA384, crypto.SHA384},
	{tpm2.TPMAlgSHA512, crypto.SHA512}, {tpm2.TPMAlgSHA3256, crypto.SHA3_256}, {tpm2.TPMAlgSHA3384, crypto.SHA3_384},
	{tpm2.TPMAlgSHA3512, crypto.SHA3_512},
}

// readAbilities asks what the chip can do. It is the first that is asked of it.
func (c *chip20) readAbilities() error {
	all, err := c.conn.Algorithms()
	if err != nil {
		return err
	}
	can := &chipAbilities20{algorithms: map[tpm2.TPMAlgID]bool{}}
	for alg := range all {
		can.algorithms[alg] = true
	}
	if can.commands, err = c.conn.Commands(); err != nil {
		return err
	}
	c.can = can
	return nil
}

// keyTypes are the types of keys that the chip makes.
func (c *chip20) keyTypes() ([]KeyType, error) {
	var all []KeyType
	for _, t := range []KeyType{RSA2048, RSA3072, RSA4096, P256, P384, P521} {
		err := c.conn.TestParms(parms20(t))
		switch {
		case err == nil:
			all = append(all, t)
		case c.classOf(err) != classRefused:
			return nil, err
		}
	}
	return all, nil
}

// parms20 are the parameters of a key of a type that signs and decrypts.
func parms20(t KeyType) tpm2.TPMTPublicParms {
	if curve, ok := curves20[t]; ok {
		return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgECC, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, CurveID: curve,
		})}
	}
	return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgRSA, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, KeyBits: rsaBits[t],
	})}
}

var (
	rsaBits  = map[KeyType]tpm2.TPMKeyBits{RSA1024: 1024, RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}
	curves20 = map[KeyType]tpm2.TPMECCCurve{P256: tpm2.TPMECCNistP256, P384: tpm2.TPMECCNistP384, P521: tpm2.TPMECCNistP521}
)

// typeOf is the type of a software key.
func typeOf(key crypto.PrivateKey) KeyType {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return KeyType(fmt.Sprintf("rsa%d", key.N.BitLen()))
	case *ecdsa.PrivateKey:
		return KeyType("p" + strings.TrimPrefix(key.Curve.Params().Name, "P-"))
	}
	return ""
}

// checkType refuses types that the chip does not have, before it is asked.
func (c *chip20) checkType(t KeyType) error {
	err := c.conn.TestParms(parms20(t))
	if err == nil || c.classOf(err) != classRefused {
		return c.explain(err, nil)
	}
	all, listed := c.keyTypes()
	if listed != nil {
		return errors.Join(c.explain(err, nil), listed)
	}
	return fmt.Errorf("%w: this TPM has no %s keys; it has %v: %w", ErrNotSupported, t, all, err)
}

// chipAbilities20 are what a TPM 2.0 has, whatever the key, and what was learnt of it.
// All but the latter is read once, before there are keys.
type chipAbilities20 struct {
	algorithms map[tpm2.TPMAlgID]bool
	commands   map[tpm2.TPMCC]bool // nil where they are not known
	salt       pssSalt
}

// usualAlgorithms are what a chip is believed to have where none is asked.
var usualAlgorithms = map[tpm2.TPMAlgID]bool{
	tpm2.TPMAlgSHA1: true, tpm2.TPMAlgSHA256: true, tpm2.TPMAlgSHA384: true, tpm2.TPMAlgSHA512: true,
	tpm2.TPMAlgRSASSA: true, tpm2.TPMAlgRSAPSS: true, tpm2.TPMAlgRSAES: true, tpm2.TPMAlgOAEP: true,
	tpm2.TPMAlgECDSA: true, tpm2.TPMAlgECDH: true,
}
