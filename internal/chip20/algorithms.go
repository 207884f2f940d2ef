package chip20

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
)

// First handles of each kind. TPM 2.0 Library Part 2, section 7.2 (TPM_HT).
const (
	transientFirst  tpm2.TPMHandle = 0x80000000
	persistentFirst tpm2.TPMHandle = 0x81000000
	sessionsFirst   tpm2.TPMHandle = 0x02000000
	savedFirst      tpm2.TPMHandle = 0x03000000
)

// hashes are the hash algorithms of TPM 2.0 that Go knows. TPM 2.0 Library Part 2, section 6.3
// (TPM_ALG_ID).
var hashes = []struct {
	alg  tpm2.TPMAlgID
	hash crypto.Hash
}{
	{tpm2.TPMAlgSHA1, crypto.SHA1}, {tpm2.TPMAlgSHA256, crypto.SHA256}, {tpm2.TPMAlgSHA384, crypto.SHA384},
	{tpm2.TPMAlgSHA512, crypto.SHA512}, {tpm2.TPMAlgSHA3256, crypto.SHA3_256}, {tpm2.TPMAlgSHA3384, crypto.SHA3_384},
	{tpm2.TPMAlgSHA3512, crypto.SHA3_512},
}

// readFeatures reads which algorithms and commands the TPM has.
func (c *Chip) readFeatures() error {
	all, err := c.conn.Algorithms()
	if err != nil {
		return err
	}
	can := &features{algorithms: map[tpm2.TPMAlgID]bool{}}
	for alg := range all {
		can.algorithms[alg] = true
	}
	if can.commands, err = c.conn.Commands(); err != nil {
		return err
	}
	c.can = can
	return nil
}

// newTypes are the types of new keys.
var newTypes = []chip.KeyType{chip.RSA2048, chip.RSA3072, chip.RSA4096, chip.P256, chip.P384, chip.P521}

// keyTypes returns those of newTypes that the TPM supports.
func (c *Chip) keyTypes() ([]chip.KeyType, error) {
	var all []chip.KeyType
	for _, t := range newTypes {
		err := c.conn.TestParms(parmsOf(t))
		switch {
		case err == nil:
			all = append(all, t)
		case c.ClassOf(err) != chip.ClassRefused:
			return nil, err
		}
	}
	return all, nil
}

// parmsOf returns the parameters of a key of this type that signs and decrypts.
func parmsOf(t chip.KeyType) tpm2.TPMTPublicParms {
	if curve, ok := curves[t]; ok {
		return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgECC, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, CurveID: curve,
		})}
	}
	return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgRSA, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, KeyBits: rsaBits[t],
	})}
}

var (
	rsaBits = map[chip.KeyType]tpm2.TPMKeyBits{chip.RSA1024: 1024, chip.RSA2048: 2048, chip.RSA3072: 3072, chip.RSA4096: 4096}
	curves  = map[chip.KeyType]tpm2.TPMECCCurve{chip.P256: tpm2.TPMECCNistP256, chip.P384: tpm2.TPMECCNistP384, chip.P521: tpm2.TPMECCNistP521}
)

// typeOf returns the type of a software key.
func typeOf(key crypto.PrivateKey) chip.KeyType {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return chip.KeyType(fmt.Sprintf("rsa%d", key.N.BitLen()))
	case *ecdsa.PrivateKey:
		return chip.KeyType("p" + strings.TrimPrefix(key.Curve.Params().Name, "P-"))
	}
	return ""
}

// checkType returns an error if the TPM does not support keys of this type.
func (c *Chip) checkType(t chip.KeyType) error {
	err := c.conn.TestParms(parmsOf(t))
	if err == nil || c.ClassOf(err) != chip.ClassRefused {
		return c.explain(err, nil)
	}
	return c.noType(t)
}

// checkNewType is checkType for a key that the TPM makes.
func (c *Chip) checkNewType(t chip.KeyType) error {
	if !slices.Contains(newTypes, t) {
		return c.noType(t)
	}
	return c.checkType(t)
}

// noType returns the error about a type of key that the TPM does not have, with those that it has.
func (c *Chip) noType(t chip.KeyType) error {
	all, err := c.keyTypes()
	if err != nil {
		return c.explain(err, nil)
	}
	return fmt.Errorf("%w: this TPM has no %s keys; it has %s", chip.ErrNotSupported, t, strings.Trim(fmt.Sprint(all), "[]"))
}

// features are the TPM's algorithms and commands, which are read when the TPM is opened, and the
// salt length that its RSA-PSS signatures turned out to have.
type features struct {
	algorithms map[tpm2.TPMAlgID]bool
	commands   map[tpm2.TPMCC]bool // nil if they are unknown
	salt       pssSalt
}

// usualAlgorithms are the algorithms that most TPMs have, for answers without a TPM.
var usualAlgorithms = map[tpm2.TPMAlgID]bool{
	tpm2.TPMAlgSHA1: true, tpm2.TPMAlgSHA256: true, tpm2.TPMAlgSHA384: true, tpm2.TPMAlgSHA512: true,
	tpm2.TPMAlgRSASSA: true, tpm2.TPMAlgRSAPSS: true, tpm2.TPMAlgRSAES: true, tpm2.TPMAlgOAEP: true,
	tpm2.TPMAlgECDSA: true, tpm2.TPMAlgECDH: true,
}
