package chip

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"math/big"
)

// DigestInfoPrefix is the DER encoding that precedes a digest in a DigestInfo. RFC 8017, section
// 9.2, note 1; for SHA-3, NIST's object identifiers.
var DigestInfoPrefix = map[crypto.Hash]string{
	crypto.MD5:        "\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10",
	crypto.SHA1:       "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
	crypto.SHA224:     nistPrefix(0x04, 28),
	crypto.SHA256:     nistPrefix(0x01, 32),
	crypto.SHA384:     nistPrefix(0x02, 48),
	crypto.SHA512:     nistPrefix(0x03, 64),
	crypto.SHA512_224: nistPrefix(0x05, 28),
	crypto.SHA512_256: nistPrefix(0x06, 32),
	crypto.SHA3_224:   nistPrefix(0x07, 28),
	crypto.SHA3_256:   nistPrefix(0x08, 32),
	crypto.SHA3_384:   nistPrefix(0x09, 48),
	crypto.SHA3_512:   nistPrefix(0x0a, 64),
	crypto.RIPEMD160:  "\x30\x20\x30\x08\x06\x06\x28\xcf\x06\x03\x00\x31\x04\x14", // as in crypto/rsa
	crypto.MD5SHA1:    "",                                                         // TLS 1.0 and 1.1: no DigestInfo
}

// nistPrefix returns the prefix for a hash whose object identifier is 2.16.840.1.101.3.4.2.arc.
func nistPrefix(arc, size byte) string {
	return string([]byte{
		0x30, 17 + size, 0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc, 0x05, 0, 0x04, size,
	})
}

// DigestInfo returns the bytes that PKCS#1 v1.5 pads for a digest: its DigestInfo, or for hash 0
// the digest itself. RFC 8017, section 9.2.
func DigestInfo(hash crypto.Hash, digest []byte) ([]byte, error) {
	if hash == 0 {
		return digest, nil
	}
	prefix, ok := DigestInfoPrefix[hash]
	if !ok {
		return nil, fmt.Errorf("%w: PKCS#1 v1.5 signatures with %s", ErrNotSupported, HashName(hash))
	}
	if len(digest) != hash.Size() {
		return nil, fmt.Errorf("a %s digest has %d bytes, this one %d: hash the message first", hash, hash.Size(), len(digest))
	}
	return append([]byte(prefix), digest...), nil
}

// Digest returns what crypto.Signer takes for a message: its digest by the hash of opts, for hash 0
// the message itself. It returns the message for opts that nobody can sign with.
func Digest(message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if pss, ok := opts.(*rsa.PSSOptions); opts == nil || ok && pss == nil {
		return message, nil
	}
	hash := opts.HashFunc()
	switch {
	case hash == 0:
		return message, nil
	case !hash.Available():
		return nil, fmt.Errorf("%w: hashing with %s: the program does not import the hash's package", ErrNotSupported, HashName(hash))
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil), nil
}

// HashName returns the name of a hash for error messages, also for 0 and unknown hashes.
func HashName(hash crypto.Hash) string {
	if hash == 0 {
		return "raw bytes"
	}
	return hash.String()
}

// VerifyPKCS1v15 verifies a signature; info is from DigestInfo. RFC 8017, section 8.2.2.
func VerifyPKCS1v15(pub *rsa.PublicKey, info, sig []byte) error {
	if pub.Size() < len(info)+11 {
		return ErrBadSignature
	}
	return VerifyBlock(pub, EMSAPKCS1(pub.Size(), info), sig)
}

// EMSAPKCS1 returns the padded block of size bytes for a PKCS#1 v1.5 signature; info is from
// DigestInfo. RFC 8017, section 9.2 (EMSA-PKCS1-v1_5).
func EMSAPKCS1(size int, info []byte) []byte {
	block := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-len(info)-3)...)
	return append(append(block, 0), info...)
}

// VerifyBlock verifies a raw RSA signature of a padded block. It does not use crypto/rsa, which
// refuses 512-bit keys and takes longer (54 µs, not 33, for 2048 bits). It is only called to
// check what the TPM returned for a loaded key.
func VerifyBlock(pub *rsa.PublicKey, block, sig []byte) error {
	if len(sig) != pub.Size() {
		return ErrBadSignature
	}
	s := new(big.Int).SetBytes(sig)
	if s.Cmp(pub.N) >= 0 {
		return ErrBadSignature
	}
	em := s.Exp(s, big.NewInt(int64(pub.E)), pub.N).FillBytes(make([]byte, len(sig)))
	if !bytes.Equal(em, block) {
		return ErrBadSignature
	}
	return nil
}

// ChooseSessionKey returns plain if valid is true and plain is as long as fallback, else
// fallback. It takes the same time in both cases, and clears plain.
func ChooseSessionKey(plain, fallback []byte, valid bool) []byte {
	padded := make([]byte, len(fallback))
	copy(padded, plain)
	ok := subtle.ConstantTimeEq(int32(len(plain)), int32(len(fallback)))
	if !valid {
		ok = 0
	}
	subtle.ConstantTimeCopy(ok, fallback, padded)
	clear(padded)
	clear(plain)
	return fallback
}
