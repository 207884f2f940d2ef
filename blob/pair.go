package blob

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Half is what a file is in a pair of tpm2-tools.
type Half int

// The halves of a pair.
const (
	NoHalf      Half = iota
	PublicHalf       // a TPM2B_PUBLIC, by convention NAME.pub
	PrivateHalf      // a TPM2B_PRIVATE, by convention NAME.priv
)

// FindHalf tells whether the bytes of a file are one of the two files of a key that
// tpm2_create writes. Only their lengths and first fields are looked at: what is no
// half may still look like one, and [ParsePair] says what is wrong with it.
func FindHalf(data []byte) Half {
	if len(data) < 12 || int(data[0])<<8|int(data[1]) != len(data)-2 {
		return NoHalf
	}
	alg := tpm2.TPMAlgID(data[2])<<8 | tpm2.TPMAlgID(data[3])
	nameAlg := tpm2.TPMAlgID(data[4])<<8 | tpm2.TPMAlgID(data[5])
	switch alg {
	case tpm2.TPMAlgRSA, tpm2.TPMAlgECC, tpm2.TPMAlgKeyedHash, tpm2.TPMAlgSymCipher:
		if hashSizes[nameAlg] != 0 {
			return PublicHalf
		}
	}
	if isWrapped(data[2:]) {
		return PrivateHalf
	}
	return NoHalf
}

func errHalf(half Half) *NotKeyError {
	if half == PublicHalf {
		return &NotKeyError{What: "the public half of a tpm2-tools key (.pub)", Do: "give its private half (.priv) with it", Half: half}
	}
	return &NotKeyError{What: "the private half of a tpm2-tools key (.priv)", Do: "give its public half (.pub) with it", Half: half}
}

// ParsePair reads the two files that tpm2_create writes of a key, a TPM2B_PUBLIC and a
// TPM2B_PRIVATE. The Key keeps no part of them.
//
// They say neither what the parent is nor whether the key has a secret: the Key has the
// owner's hierarchy as Parent and EmptyAuth false, so that it asks for a secret, and
// [TSS2.Guessed] reports true. Set both where they are known.
//
// An error is a [*NotKeyError] when a file is something else, as when the two are
// exchanged, and wraps [ErrTruncated] or [ErrDamaged] otherwise.
func ParsePair(pub, priv []byte) (*Key, error) {
	k, err := parsePair(pub, priv)
	if err != nil {
		return nil, advise(err)
	}
	return k, nil
}

func parsePair(pub, priv []byte) (*Key, error) {
	switch {
	case FindHalf(pub) == PrivateHalf && FindHalf(priv) == PublicHalf:
		return nil, &NotKeyError{What: "a private half (.priv) where the public one should be", Do: "exchange the two files", Half: PrivateHalf}
	case FindHalf(pub) == PrivateHalf:
		return nil, &NotKeyError{What: "a second private half (.priv)", Do: "give the public half (.pub) with one", Half: PrivateHalf}
	case FindHalf(priv) == PublicHalf:
		return nil, &NotKeyError{What: "a second public half (.pub)", Do: "give the private half (.priv) with one", Half: PublicHalf}
	}
	if err := checkHalf(pub, "public half (.pub)"); err != nil {
		return nil, err
	}
	if err := checkHalf(priv, "private half (.priv)"); err != nil {
		return nil, err
	}
	t := &TSS2{
		Parent:  handleOwner,
		Public:  bytes.Clone(pub),
		Private: bytes.Clone(priv),
		guessed: true,
	}
	p, err := parsePublicArea(pub)
	if err != nil {
		return nil, fmt.Errorf("public half (.pub): %w", err)
	}
	if p.sealed() {
		t.Type = TSS2Sealed
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return &Key{Container: TSS2Pair, TSS2: t}, nil
}

// checkHalf tells whether the size in front of a half is that of the file.
func checkHalf(b []byte, name string) error {
	if len(b) < 2 {
		return shortError(ErrTruncated, name+" size", 2, len(b), 0)
	}
	if size := int(b[0])<<8 | int(b[1]); size > len(b)-2 {
		return shortError(ErrTruncated, name, uint64(size), len(b)-2, 2)
	}
	_, err := tpm2B(b, name)
	return err
}

// MarshalPair returns k as the two files of tpm2-tools. What they have no room for is
// lost: parent, policy, description and whether k needs a secret. The error says why
// k cannot be a pair, as an importable key cannot.
func (k *Key) MarshalPair() (pub, priv []byte, err error) {
	switch {
	case k.TSS2 == nil:
		err = errors.New("the key is one of a TPM 1.2")
	case k.TSS2.Handle != 0:
		err = k.checkFile(TSS2PEM)
	case k.TSS2.Importable():
		err = errors.New("the key must be imported first, and a pair has no room for the secret that this takes")
	default:
		err = k.TSS2.check()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("write %v: %w", TSS2Pair, err)
	}
	return bytes.Clone(k.TSS2.Public), bytes.Clone(k.TSS2.Private), nil
}
