package blob

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// Half says which file of a tpm2-tools pair a file is.
type Half int

// The two files of a pair.
const (
	NoHalf      Half = iota
	PublicHalf       // a TPM2B_PUBLIC, by convention NAME.pub
	PrivateHalf      // a TPM2B_PRIVATE, by convention NAME.priv
)

// isPublicHalf reports whether a file looks like the public file of tpm2_create. It checks only the
// length and the first fields; ParsePair reports errors in the rest.
func isPublicHalf(b []byte) bool {
	if !isSized(b) {
		return false
	}
	switch alg := tpm2.TPMAlgID(b[2])<<8 | tpm2.TPMAlgID(b[3]); alg {
	case tpm2.TPMAlgRSA, tpm2.TPMAlgECC, tpm2.TPMAlgKeyedHash, tpm2.TPMAlgSymCipher:
		nameAlg := tpm2.TPMAlgID(b[4])<<8 | tpm2.TPMAlgID(b[5])
		return pubarea.HashSizes[nameAlg] != 0
	}
	return false
}

// isPrivateHalf reports whether a file looks like the private file of tpm2_create.
func isPrivateHalf(b []byte) bool { return isSized(b) && !isPublicHalf(b) && isWrapped(b[2:]) }

// isSized reports whether a file begins with the size of the rest.
func isSized(b []byte) bool { return len(b) >= 12 && int(b[0])<<8|int(b[1]) == len(b)-2 }

func errHalf(half Half) *NotKeyError {
	if half == PublicHalf {
		return &NotKeyError{What: "the public half of a tpm2-tools key (.pub)", Do: "give its private half (.priv) with it", Half: half}
	}
	return &NotKeyError{What: "the private half of a tpm2-tools key (.priv)", Do: "give its public half (.pub) with it", Half: half}
}

// ParsePair parses the two files of tpm2_create, a TPM2B_PUBLIC and a TPM2B_PRIVATE. The key keeps
// no part of them.
//
// The files contain neither the parent nor whether the key has a secret. The key has the owner
// hierarchy as Parent, and EmptyAuth is false, so that it asks for a secret. [TSS2.Guessed] reports
// true. Set both fields if they are known.
//
// If a file is something else, or the two are exchanged, the error is a [*NotKeyError]. Otherwise
// it wraps [ErrTruncated] or [ErrDamaged].
func ParsePair(pub, priv []byte) (*TSS2, error) {
	t, err := parsePair(pub, priv)
	return t, advise(err)
}

func parsePair(pub, priv []byte) (*TSS2, error) {
	switch {
	case isPrivateHalf(pub) && isPublicHalf(priv):
		return nil, &NotKeyError{What: "a private half (.priv) where the public one should be", Do: "exchange the two files", Half: PrivateHalf}
	case isPrivateHalf(pub):
		return nil, &NotKeyError{What: "a second private half (.priv)", Do: "give the public half (.pub) with one", Half: PrivateHalf}
	case isPublicHalf(priv):
		return nil, &NotKeyError{What: "a second public half (.pub)", Do: "give the private half (.priv) with one", Half: PublicHalf}
	}
	if err := checkHalf(pub, "public half (.pub)"); err != nil {
		return nil, err
	}
	if err := checkHalf(priv, "private half (.priv)"); err != nil {
		return nil, err
	}
	t := &TSS2{
		Parent:    handleOwner,
		Public:    bytes.Clone(pub),
		Private:   bytes.Clone(priv),
		container: TSS2Pair,
	}
	p, err := pubarea.Parse(pub)
	if err != nil {
		return nil, fmt.Errorf("public half (.pub): %w", err)
	}
	if p.Sealed() {
		t.Type = TSS2Sealed
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// checkHalf checks the size at the beginning of a file.
func checkHalf(b []byte, name string) error {
	if len(b) < 2 {
		return pubarea.ShortError(ErrTruncated, name+" size", 2, len(b), 0)
	}
	if size := int(b[0])<<8 | int(b[1]); size > len(b)-2 {
		return pubarea.ShortError(ErrTruncated, name, uint64(size), len(b)-2, 2)
	}
	_, err := pubarea.TPM2B(b, name)
	return err
}
