package blob

import (
	"crypto"
	"crypto/rsa"
	"math"
	"math/big"
	"math/bits"
)

// A Key is a key of a TPM, or data sealed to one: its public part, which anyone can read,
// and its private part, which only the TPM it was made for can. It is a [*TPMKey] or a
// [*TSS2].
type Key interface {
	// Container is what Parse found around the key. Of a new key it is the usual one, PEM
	// or TSS2PEM.
	Container() Container
	// PublicKey returns the key's public part, a new *rsa.PublicKey or *ecdsa.PublicKey
	// each time. It is nil for a template, for a key that Parse would refuse, and where
	// Unsupported says why: for sealed data, or a curve that this project does not use.
	PublicKey() crypto.PublicKey
	// Unsupported says what of a sound key this project has no use for, such as
	// "unsupported curve TPM_ECC_BN_P256"; the error wraps [ErrUnsupported]. It is nil for
	// keys that sign, decrypt or agree on secrets, and for each key of a TPM 1.2.
	Unsupported() error
	// CanSign reports whether the key signs what a caller gives, and not only what the TPM
	// itself made.
	CanSign() bool
	// CanDecrypt reports whether the key decrypts.
	CanDecrypt() bool
	// CanAgree reports whether the key can agree on a secret with another key (ECDH).
	CanAgree() bool
	// Sealed reports whether this is data for TPM2_Unseal, not a key.
	Sealed() bool
	// NeedsSecret reports whether the key's own secret is needed to use it.
	NeedsSecret() bool
	// Migratable reports whether the key may leave its TPM, as each wrapped software key
	// may.
	Migratable() bool
	// Marshal returns the key as a file in a container, in the form in which the original
	// program writes it: comments, text around and unusual line ends of a file that Parse
	// read are not kept. A key of a TPM 2.0 that Parse read and nobody changed is written
	// byte for byte as it was. The error says why the key cannot be a file (it is a
	// template, for example), or where it and the container do not go together.
	Marshal(Container) ([]byte, error)

	check() error // what in it contradicts the specification or itself
}

// TPMKey is a key of a TPM 1.2.
//
// TPM Main Part 2, sections 10.2 (TPM_KEY) and 10.3 (TPM_KEY12)
type TPMKey struct {
	Key12 bool // a TPM_KEY12, not a TPM_KEY

	Usage         KeyUsage
	Flags         KeyFlags
	AuthDataUsage AuthDataUsage
	EncScheme     EncScheme
	SigScheme     SigScheme

	KeyLength uint32 // of the modulus, in bits
	NumPrimes uint32 // always 2
	Exponent  []byte // big-endian, as in the file; empty means 65537
	PCRInfo   []byte // TPM_PCR_INFO, TPM_PCR_INFO_LONG in a TPM_KEY12; empty when not bound to PCRs
	Modulus   []byte // big-endian, KeyLength/8 bytes; empty in a template
	EncData   []byte // private part, encrypted for the parent key; empty in a template

	container Container
	tssType   uint32 // blob type found in a TssBlob, 0 in other containers
}

// The sizes of keys that this package reads, in bits. TPMs themselves make 512,
// 1024 and 2048; the TSS 1.2 has names for sizes up to 16384.
const (
	minKeyLength = 512
	maxKeyLength = 16384
)

// minEncData is the size of the private part under the smallest storage key
// that a TPM allows, 2048 bits.
const minEncData = 256

// defaultExponent is the public exponent that an empty field stands for.
//
// TPM Main Part 2, section 10.1.1 (TPM_RSA_KEY_PARMS)
const defaultExponent = 65537

// Container implements [Key].
func (k *TPMKey) Container() Container { return k.container }

// PublicKey implements [Key]. The key is an *rsa.PublicKey.
func (k *TPMKey) PublicKey() crypto.PublicKey {
	e, err := exponentInt(k.Exponent)
	if err != nil || checkModulus(k.Modulus, k.KeyLength) != nil {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}
}

// Unsupported is nil.
func (k *TPMKey) Unsupported() error { return nil }

// CanSign reports whether usage and signature scheme allow PKCS #1 v1.5 signatures of what
// a caller gives. A key with [SSRSASSAPKCS1v15INFO] signs only structures that TPMs read,
// so it is not among them.
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

// CanAgree is false, as the key is RSA.
func (k *TPMKey) CanAgree() bool { return false }

// Sealed is false.
func (k *TPMKey) Sealed() bool { return false }

// NeedsSecret implements [Key].
func (k *TPMKey) NeedsSecret() bool { return k.AuthDataUsage != AuthNever }

// Migratable implements [Key].
func (k *TPMKey) Migratable() bool { return k.Flags&Migratable != 0 }

// isTemplate reports whether k has neither public nor private part yet.
func (k *TPMKey) isTemplate() bool { return len(k.Modulus) == 0 && len(k.EncData) == 0 }

// check tells what in k contradicts the specification or itself. Parse and
// Marshal both use it, so that what one writes the other reads.
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

// checkModulus tells whether m is a modulus of the given number of bits.
func checkModulus(m []byte, keyLength uint32) error {
	switch {
	case keyLength < minKeyLength || keyLength > maxKeyLength || keyLength%8 != 0:
		return damaged("keyLength is %d bits, and RSA keys of TPM 1.2 have %d to %d in whole bytes",
			keyLength, minKeyLength, maxKeyLength)
	case len(m) != int(keyLength/8):
		return damaged("modulus has %d bytes, and keyLength says %d", len(m), keyLength/8)
	case m[0] == 0:
		return damaged("modulus begins with a zero byte, so it is shorter than keyLength says")
	case m[len(m)-1]&1 == 0:
		return damaged("modulus is an even number, which no RSA key has")
	}
	return nil
}

// exponentInt reads a big-endian public exponent; empty means 65537.
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
