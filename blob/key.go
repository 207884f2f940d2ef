package blob

import (
	"crypto"
	"crypto/rsa"
	"math"
	"math/big"
	"math/bits"
)

// A Key is the content of a key file: a key, or data sealed to a TPM. Anyone can read its public
// part; only its TPM can decrypt its private part. A Key is a [*TPMKey], a [*TPMSealed] or a
// [*TSS2].
type Key interface {
	// Container returns the container that the key was parsed from. For a new key it returns PEM
	// or TSS2PEM, for data sealed to a TPM 1.2 TSSSealed.
	Container() Container
	// PublicKey returns a new *rsa.PublicKey or *ecdsa.PublicKey. It returns nil for a template,
	// for a key that Parse would refuse, and for sealed data and curves, which Unsupported
	// explains.
	PublicKey() crypto.PublicKey
	// Unsupported returns why this project cannot use a valid key, such as "unsupported curve
	// TPM_ECC_BN_P256"; the error wraps [ErrUnsupported]. It returns nil for keys that sign,
	// decrypt or agree on secrets, and for every TPM 1.2 key. If it returns an error, PublicKey
	// returns nil.
	Unsupported() error
	// CanSign reports whether the key can sign a message of the caller, not only data of the TPM.
	CanSign() bool
	// CanDecrypt reports whether the key can decrypt.
	CanDecrypt() bool
	// CanAgree reports whether the key can agree on a secret with another key (ECDH).
	CanAgree() bool
	// Sealed reports whether the file contains data for TPM2_Unseal or TPM_Unseal instead of a
	// key.
	Sealed() bool
	// NeedsSecret reports whether the use of the key needs the key's secret.
	NeedsSecret() bool
	// Migratable reports whether the key may leave its TPM. Wrapped software keys may.
	Migratable() bool
	// Marshal returns the key as a file in a container, as the original program writes it.
	// Comments, surrounding text and unusual line ends of a parsed file are lost. It returns an
	// error if the key cannot be a key file (a template, for example) or if the container does
	// not exist.
	//
	// A parsed, unchanged key of a TPM 2.0 is written byte for byte as it was. Keys of a TPM 1.2
	// and a TPM 2.0 have different containers; it is an error if key and container do not match.
	Marshal(Container) ([]byte, error)

	check() error // what in the key contradicts the specification or the key itself
}

// A TPMKey is a TPM 1.2 key.
//
// TPM Main Part 2, sections 10.2 (TPM_KEY) and 10.3 (TPM_KEY12)
type TPMKey struct {
	Key12 bool // a TPM_KEY12, not a TPM_KEY

	Usage         KeyUsage
	Flags         KeyFlags
	AuthDataUsage AuthDataUsage
	EncScheme     EncScheme
	SigScheme     SigScheme

	KeyLength uint32 // size of the modulus in bits
	NumPrimes uint32 // always 2
	Exponent  []byte // big-endian, as in the file; empty means 65537
	PCRInfo   []byte // TPM_PCR_INFO, or TPM_PCR_INFO_LONG in a TPM_KEY12; empty if not bound to PCRs
	Modulus   []byte // big-endian, KeyLength/8 bytes; empty in a template
	EncData   []byte // private part, encrypted for the parent key; empty in a template

	container Container
	tssType   uint32 // type in a TssBlob, 0 in other containers
}

// The key sizes that this package reads, in bits. TPMs make keys of 512, 1024 and 2048 bits; TSS
// 1.2 names sizes up to 16384.
const (
	minKeyLength = 512
	maxKeyLength = 16384
)

// minEncData is the size of the private part under a storage key of 2048 bits, the smallest that a
// TPM allows.
const minEncData = 256

// An empty exponent field means defaultExponent.
//
// TPM Main Part 2, section 10.1.1 (TPM_RSA_KEY_PARMS)
const defaultExponent = 65537

// Container implements [Key].
func (k *TPMKey) Container() Container { return k.container }

// PublicKey implements [Key]. It returns an *rsa.PublicKey or nil.
func (k *TPMKey) PublicKey() crypto.PublicKey {
	e, err := exponentInt(k.Exponent)
	if err != nil || checkModulus(k.Modulus, k.KeyLength) != nil {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}
}

// Unsupported is nil.
func (k *TPMKey) Unsupported() error { return nil }

// CanSign reports whether usage and signature scheme allow signing a digest of the caller with PKCS
// #1 v1.5. A key with [SSRSASSAPKCS1v15INFO] cannot, because it signs only structures that the TPM
// builds.
//
// TPM Main Part 3, section 13.5 (TPM_Sign)
func (k *TPMKey) CanSign() bool {
	usage := k.Usage == KeySigning || k.Usage == KeyLegacy
	return usage && (k.SigScheme == SSRSASSAPKCS1v15SHA1 || k.SigScheme == SSRSASSAPKCS1v15DER)
}

// CanDecrypt reports whether usage and encryption scheme allow decryption.
//
// TPM Main Part 3, section 10.3 (TPM_UnBind)
func (k *TPMKey) CanDecrypt() bool {
	usage := k.Usage == KeyBind || k.Usage == KeyLegacy
	return usage && (k.EncScheme == ESRSAESPKCSv15 || k.EncScheme == ESRSAESOAEPSHA1MGF1)
}

// CanAgree returns false, because the key is RSA.
func (k *TPMKey) CanAgree() bool { return false }

// Sealed returns false.
func (k *TPMKey) Sealed() bool { return false }

// NeedsSecret implements [Key].
func (k *TPMKey) NeedsSecret() bool { return k.AuthDataUsage != AuthNever }

// Migratable implements [Key].
func (k *TPMKey) Migratable() bool { return k.Flags&Migratable != 0 }

// isTemplate reports whether k has no public and no private part yet.
func (k *TPMKey) isTemplate() bool { return len(k.Modulus) == 0 && len(k.EncData) == 0 }

// check returns what in k contradicts the specification or k itself. Parse and Marshal both call
// it, so Parse reads everything that Marshal writes.
func (k *TPMKey) check() error {
	switch {
	case k.Usage < KeySigning || k.Usage > KeyMigrate:
		return damaged("keyUsage is 0x%04x, none that TPM 1.2 knows", uint16(k.Usage))
	case k.Flags&^allFlags != 0:
		return damaged("keyFlags is 0x%08x, with bits that TPM 1.2 does not know", uint32(k.Flags))
	case k.AuthDataUsage != AuthNever && k.AuthDataUsage != AuthAlways && k.AuthDataUsage != NoReadPubkeyAuth:
		return damaged("authDataUsage is 0x%02x, none that TPM 1.2 knows", uint8(k.AuthDataUsage))
	case k.EncScheme < ESNone || k.EncScheme > ESRSAESOAEPSHA1MGF1:
		return damaged("encScheme is 0x%04x, none that RSA keys of TPM 1.2 have", uint16(k.EncScheme))
	case k.SigScheme < SSNone || k.SigScheme > SSRSASSAPKCS1v15INFO:
		return damaged("sigScheme is 0x%04x, none that RSA keys of TPM 1.2 have", uint16(k.SigScheme))
	case k.NumPrimes != 2:
		return damaged("numPrimes is %d, and RSA keys of TPM 1.2 have 2", k.NumPrimes)
	case len(k.EncData) < minEncData:
		return damaged("encData has %d bytes, and a private part has %d or more", len(k.EncData), minEncData)
	}
	if _, err := exponentInt(k.Exponent); err != nil {
		return err
	}
	if _, err := k.pcrSelection(); err != nil {
		return err
	}
	return checkModulus(k.Modulus, k.KeyLength)
}

// checkModulus checks that m is a modulus of the given number of bits.
func checkModulus(m []byte, keyLength uint32) error {
	switch {
	case keyLength < minKeyLength || keyLength > maxKeyLength || keyLength%8 != 0:
		return damaged("keyLength is %d bits, and RSA keys of TPM 1.2 have %d to %d in whole bytes",
			keyLength, minKeyLength, maxKeyLength)
	case len(m) != int(keyLength/8):
		return damaged("modulus has %d bits, and keyLength says %d", 8*len(m), keyLength)
	case m[0] == 0:
		return damaged("modulus begins with a zero byte, so it is shorter than keyLength says")
	case m[len(m)-1]&1 == 0:
		return damaged("modulus is an even number, which no RSA key has")
	}
	return nil
}

// exponentInt converts a big-endian public exponent; empty means 65537.
func exponentInt(b []byte) (int, error) {
	if len(b) == 0 {
		return defaultExponent, nil
	}
	e := 0
	for _, digit := range b {
		if e > math.MaxInt>>8 {
			return 0, damaged("public exponent does not fit an int of %d bits", bits.UintSize)
		}
		e = e<<8 | int(digit)
	}
	switch {
	case e < 3:
		return 0, damaged("public exponent is %d, and the smallest of RSA is 3", e)
	case e&1 == 0:
		return 0, damaged("public exponent is an even number, which no RSA key has")
	}
	return e, nil
}
