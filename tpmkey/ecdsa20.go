package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// signECDSA signs a digest of any hash, or of none. ECDSA signs an integer, the
// leftmost bits of the digest, so whatever hash the chip has does for one that it
// has not, if that integer fits. FIPS 186-5, section 6.4.1; TPM 2.0 Library Part 1,
// annex C.8 (EC Signing).
func (k *abilities20) signECDSA(hash crypto.Hash, digest []byte) (*signing, error) {
	if err := checkDigest(hash, digest); err != nil {
		return nil, err
	}
	order := k.ecdsa.Params().N.BitLen()
	for _, h := range ecdsaHashes {
		if !k.tpmSigns(tpm2.TPMAlgECDSA, algOf(h)) {
			continue
		}
		area, ok := ecdsaDigest(digest, order, h.Size())
		if !ok {
			continue
		}
		s := k.signTPM(tpm2.TPMAlgECDSA, algOf(h), area)
		s.verify = func(sig []byte) error {
			if !ecdsa.VerifyASN1(k.ecdsa, digest, sig) {
				return errBadSignature
			}
			return nil
		}
		return s, nil
	}
	if len(k.hashes(tpm2.TPMAlgECDSA)) > 0 {
		return nil, fmt.Errorf("%w: a digest of %d bytes is too long: this key on this TPM signs with %s", ErrNotSupported, len(digest), k.list(tpm2.TPMAlgECDSA))
	}
	return nil, k.cannotSign("ECDSA", hash)
}

// ecdsaHashes are the hashes to sign with, in order: those that nobody forbids
// first.
var ecdsaHashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA1,
}

// ecdsaDigest returns a digest of size bytes that ECDSA with an order of so many bits
// takes for the same integer as digest. There is none where it is too short.
func ecdsaDigest(digest []byte, order, size int) ([]byte, bool) {
	if whole := (order + 7) / 8; len(digest) > whole {
		digest = digest[:whole]
	}
	e := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - order; excess > 0 {
		e.Rsh(e, uint(excess))
	}
	switch surplus := 8*size - order; {
	case surplus >= 0:
		e.Lsh(e, uint(surplus))
	case min(8*len(digest), order) > 8*size:
		return nil, false
	}
	return e.FillBytes(make([]byte, size)), true
}

// ecdsaDER encodes a signature as crypto/ecdsa does. RFC 3279, section 2.2.3
// (Ecdsa-Sig-Value).
func ecdsaDER(r, s []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(r))
		b.AddASN1BigInt(new(big.Int).SetBytes(s))
	})
	return b.Bytes()
}
