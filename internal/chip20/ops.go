package chip20

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
)

// keyOps has the functions of chip.KeyOps for a key.
type keyOps struct {
	file   *blob.TSS2
	area   *tpm2.TPMTPublic
	scheme keyScheme
	rsa    *rsa.PublicKey   // nil for EC keys
	ecdsa  *ecdsa.PublicKey // nil for RSA keys
	can    *features
}

// OpsOf returns the operations of most TPMs 2.0 with a key. It needs no TPM.
func OpsOf(file *blob.TSS2) (*chip.KeyOps, error) {
	if err := checkUseful(file); err != nil {
		return nil, err
	}
	k, err := newKeyOps(file, nil)
	if err != nil {
		return nil, err
	}
	return k.ops(), nil
}

func (k *keyOps) ops() *chip.KeyOps {
	return &chip.KeyOps{Sign: k.sign, SignMessage: k.signMessage, Decrypt: k.decrypt, Agree: k.agree, CheckAuth: k.checkAuth()}
}

// newKeyOps returns the operations with a key. can nil stands for the features of most TPMs.
func newKeyOps(file *blob.TSS2, can *features) (*keyOps, error) {
	if can == nil {
		can = &features{algorithms: usualAlgorithms}
	}
	k := &keyOps{file: file, area: pubarea.TPMT(file.Public), can: can}
	if k.area == nil {
		return nil, fmt.Errorf("%w: a key with unknown algorithms", chip.ErrKeyLimits)
	}
	switch public := file.PublicKey().(type) {
	case *rsa.PublicKey:
		k.rsa = public
	case *ecdsa.PublicKey:
		k.ecdsa = public
	default:
		return nil, errors.New("there is no public key in it")
	}
	k.scheme = schemeOf(k.area)
	return k, nil
}

// A keyScheme is the scheme that a key is limited to. alg is TPM_ALG_NULL if the key is not
// limited.
type keyScheme struct{ alg, hash tpm2.TPMAlgID }

func (s keyScheme) String() string {
	if s.hash == 0 {
		return algName(s.alg)
	}
	return algName(s.alg) + " with " + algName(s.hash)
}

// schemeOf returns the scheme in a public area. TPM 2.0 Library Part 2, sections 12.2.3.5
// (TPMS_RSA_PARMS) and 12.2.3.6 (TPMS_ECC_PARMS).
func schemeOf(area *tpm2.TPMTPublic) keyScheme {
	var (
		alg     tpm2.TPMAlgID
		details tpm2.TPMUAsymScheme
	)
	if p, err := area.Parameters.RSADetail(); err == nil {
		alg, details = p.Scheme.Scheme, p.Scheme.Details
	} else if p, err := area.Parameters.ECCDetail(); err == nil {
		alg, details = p.Scheme.Scheme, p.Scheme.Details
	}
	s := keyScheme{alg: alg}
	switch alg {
	case 0: // an area that go-tpm did not unmarshal
		s.alg = tpm2.TPMAlgNull
	case tpm2.TPMAlgRSASSA:
		if d, err := details.RSASSA(); err == nil {
			s.hash = d.HashAlg
		}
	case tpm2.TPMAlgRSAPSS:
		if d, err := details.RSAPSS(); err == nil {
			s.hash = d.HashAlg
		}
	case tpm2.TPMAlgOAEP:
		if d, err := details.OAEP(); err == nil {
			s.hash = d.HashAlg
		}
	case tpm2.TPMAlgECDSA:
		if d, err := details.ECDSA(); err == nil {
			s.hash = d.HashAlg
		}
	case tpm2.TPMAlgECDH:
		if d, err := details.ECDH(); err == nil {
			s.hash = d.HashAlg
		}
	}
	return s
}

// may reports whether the TPM has a command and the key's policy allows it.
func (k *keyOps) may(cc tpm2.TPMCC) bool {
	return (k.can.commands == nil || k.can.commands[cc]) && policy.Allows(k.file.Policy, cc)
}

// decryptsRaw reports whether TPM2_RSA_Decrypt returns the padded block for the key. Then padding
// can be added or removed in software. TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *keyOps) decryptsRaw() bool {
	a := k.area.ObjectAttributes
	return k.rsa != nil && a.Decrypt && !a.Restricted && k.scheme.alg == tpm2.TPMAlgNull && k.may(tpm2.TPMCCRSADecrypt)
}

// tpmSigns reports whether TPM2_Sign with the key accepts a scheme and a hash. TPM 2.0 Library
// Part 3, section 20.2 (TPM2_Sign).
func (k *keyOps) tpmSigns(scheme, hash tpm2.TPMAlgID) bool {
	fits := k.scheme.alg == tpm2.TPMAlgNull || k.scheme == keyScheme{scheme, hash}
	return fits && hash != 0 && k.area.ObjectAttributes.SignEncrypt && !k.area.ObjectAttributes.X509Sign && k.may(tpm2.TPMCCSign) &&
		k.can.algorithms[scheme] && k.can.algorithms[hash]
}

// hashes returns the names of the hashes that TPM2_Sign with the key accepts for a scheme.
func (k *keyOps) hashes(scheme tpm2.TPMAlgID) (names []string) {
	for _, h := range hashes {
		if k.tpmSigns(scheme, h.alg) {
			names = append(names, h.hash.String())
		}
	}
	return names
}

// algOf returns the TPM's identifier of a hash, 0 if there is none.
func algOf(hash crypto.Hash) tpm2.TPMAlgID {
	for _, h := range hashes {
		if h.hash == hash {
			return h.alg
		}
	}
	return 0
}

// hashOf returns the Go hash of a TPM's identifier, 0 if there is none.
func hashOf(alg tpm2.TPMAlgID) crypto.Hash {
	for _, h := range hashes {
		if h.alg == alg {
			return h.hash
		}
	}
	return 0
}

// algName returns Go's name of a hash, or TCG's name of another algorithm.
func algName(alg tpm2.TPMAlgID) string {
	if hash := hashOf(alg); hash != 0 {
		return hash.String()
	}
	if name, ok := schemeNames[alg]; ok {
		return name
	}
	return fmt.Sprintf("%#06x", uint16(alg))
}

// schemeNames are from the TCG Algorithm Registry, table 3.
var schemeNames = map[tpm2.TPMAlgID]string{
	tpm2.TPMAlgNull: "NULL", tpm2.TPMAlgRSASSA: "RSASSA", tpm2.TPMAlgRSAPSS: "RSAPSS", tpm2.TPMAlgRSAES: "RSAES", tpm2.TPMAlgOAEP: "OAEP",
	tpm2.TPMAlgECDSA: "ECDSA", tpm2.TPMAlgECDH: "ECDH", tpm2.TPMAlgECDAA: "ECDAA", tpm2.TPMAlgSM2: "SM2",
	tpm2.TPMAlgECSchnorr: "ECSCHNORR", tpm2.TPMAlgECMQV: "ECMQV",
}

// agree returns the operation for a key agreement. Its result is the x coordinate.
func (k *keyOps) agree(remote *ecdh.PublicKey) (*chip.Operation, error) {
	point, err := k.checkAgree(remote)
	if err != nil {
		return nil, err
	}
	return &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		return in.(*loadedKey).agree(point, key)
	}}, nil
}

// checkAgree checks that TPM2_ECDH_ZGen can do the key agreement, which must be on the key's own
// curve. It returns the remote point in the uncompressed form of SEC 1. TPM 2.0 Library Part 3,
// section 14.5 (TPM2_ECDH_ZGen).
func (k *keyOps) checkAgree(remote *ecdh.PublicKey) ([]byte, error) {
	switch a := k.area.ObjectAttributes; {
	case k.ecdsa == nil:
		return nil, fmt.Errorf("%w: an RSA key cannot agree on a secret (ECDH)", chip.ErrNotSupported)
	case a.Restricted || !a.Decrypt:
		return nil, k.cannotDecrypt("agree on a secret (ECDH)")
	case k.scheme.alg != tpm2.TPMAlgNull && k.scheme.alg != tpm2.TPMAlgECDH:
		return nil, fmt.Errorf("%w: a key of scheme %v cannot agree on a secret (ECDH)", chip.ErrNotSupported, k.scheme)
	case !k.may(tpm2.TPMCCECDHZGen):
		return nil, k.errNotAllowed("agree on a secret (TPM2_ECDH_ZGen)", tpm2.TPMCCECDHZGen)
	case remote == nil:
		return nil, fmt.Errorf("%w: the other side's public key is a nil pointer", chip.ErrNotSupported)
	}
	own, err := k.ecdsa.ECDH()
	if err != nil {
		return nil, fmt.Errorf("%w: Go refuses this key: %w", chip.ErrNotSupported, err)
	}
	if remote.Curve() != own.Curve() {
		return nil, fmt.Errorf("%w: the other side's key is on %v, this one on %v", chip.ErrNotSupported, remote.Curve(), own.Curve())
	}
	return remote.Bytes(), nil
}

// checkAuth returns an operation that checks the secret. It sends the cheapest possible command
// with parameters that the TPM refuses after it has checked the secret. TPM 2.0 Library Part 1,
// section 5.2, and TPM 2.0 Library Part 3, section 5 (Command Processing).
func (k *keyOps) checkAuth() *chip.Operation {
	command, params := tpm2.TPMCCSign, []byte{0, 1, 0} // a digest of one byte, no scheme
	switch {
	case k.scheme.alg == tpm2.TPMAlgRSAES:
		return k.checkByDecrypting()
	case k.rsa != nil && k.area.ObjectAttributes.Decrypt && k.may(tpm2.TPMCCRSADecrypt):
		command, params = tpm2.TPMCCRSADecrypt, []byte{0, 0}
	case k.ecdsa != nil && k.area.ObjectAttributes.Decrypt && k.may(tpm2.TPMCCECDHZGen):
		command, params = tpm2.TPMCCECDHZGen, []byte{0, 0}
	}
	return &chip.Operation{ByCode: true, Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		return nil, in.(*loadedKey).checkAuth(command, params, key)
	}}
}

// checkByDecrypting is checkAuth for a key with which the TPM checks the padding. The TPM decrypts what
// this program has encrypted, and its authenticated answer proves the secret. A result code proves
// none: then what follows the first ciphertexts of others would show which of them were good.
func (k *keyOps) checkByDecrypting() *chip.Operation {
	return &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		message := []byte("check")
		ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, k.rsa, message)
		if err != nil {
			return nil, err
		}
		plain, err := in.(*loadedKey).decrypt(ciphertext, k.newDecryptPlan(nil), false, key)
		if errors.Is(err, chip.ErrDecryption) || err == nil && !bytes.Equal(plain, message) {
			err = errNotDecrypted
		}
		return nil, err
	}}
}

var errNotDecrypted = errors.New("the TPM does not decrypt what was encrypted for this key: the chip or its connection is faulty")
