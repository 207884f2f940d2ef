package ecryptfs

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A Signature names a token: 16 lower-case hexadecimal digits. The kernel calls it a signature, but
// it signs nothing.
type Signature string

const signatureLen = 16

// Fingerprint is the SHA-256 of a public key as SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in
// hexadecimal, as "openssl pkey -pubin -outform der
//
// sha256sum" prints it.
func Fingerprint(public *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("fingerprint of a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// A Token is a key for the kernel's keyring. Its type is "user" and its description is the
// signature.
type Token struct {
	Signature Signature
	payload   []byte
}

// Clear overwrites the token's secret.
func (t *Token) Clear() { clear(t.payload) }

// Layout of struct ecryptfs_auth_tok, packed and little-endian:
//
//	0    version: 4                      u16
//	2    type: 0 passphrase, 1 key       u16
//	4    flags                           u32
//	8    session key: all zero           588 bytes
//	596  reserved                        32 bytes
//	628  the passphrase's or the key's part, 112 bytes
const (
	tokenVersion   = 4
	typePassphrase = 0
	typeKey        = 1
	tokenPart      = 628
	tokenSize      = tokenPart + 112
)

func newToken(kind uint16) []byte {
	b := make([]byte, tokenSize)
	binary.LittleEndian.PutUint16(b[0:], tokenVersion)
	binary.LittleEndian.PutUint16(b[2:], kind)
	return b
}

// KeyToken returns the token of a public key. The daemon uses its private key for the kernel. The
// signature is the first 16 digits of the key's Fingerprint.
//
//	628  size of a wrapped key, in bytes  u32
//	632  length of data                   u32
//	636  signature, with a zero at its end
//	653  name of a key module, unused
func KeyToken(public *rsa.PublicKey) (*Token, error) {
	print, err := Fingerprint(public)
	if err != nil {
		return nil, err
	}
	t := &Token{Signature: Signature(print[:signatureLen]), payload: newToken(typeKey)}
	part := t.payload[tokenPart:]
	binary.LittleEndian.PutUint32(part, uint32(public.Size()))
	copy(part[8:], t.Signature)
	return t, nil
}

// Parameters of passphrase tokens. ecryptfs-utils has no others.
const (
	hashSHA512        = 10
	hashIterations    = 65536
	nameKeyBytes      = 64
	flagKeyDerived    = 2 // ECRYPTFS_SESSION_KEY_ENCRYPTION_KEY_SET
	MaxPassphraseSize = 64
)

// nameSalt is the salt of ecryptfs-utils for the passphrase for file names, so that
// "ecryptfs-add-passphrase --fnek" makes the same token.
var nameSalt = [8]byte{0x99, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22}

// NameToken returns the token for encrypting file names. The caller owns passphrase, which has at
// most MaxPassphraseSize bytes. The key is the SHA-512 of salt and passphrase, hashed 65535 more
// times. The signature is the beginning of its SHA-512.
//
//	628  length of the passphrase, unused u32
//	632  hash algorithm: 10, SHA-512      s32
//	636  iterations: 65536                u32
//	640  length of the key: 64            u32
//	644  flags: 2, the key is derived     u32
//	648  key                              64 bytes
//	712  signature, with a zero at its end
//	729  salt                             8 bytes
func NameToken(passphrase []byte) (*Token, error) {
	if len(passphrase) == 0 || len(passphrase) > MaxPassphraseSize {
		return nil, fmt.Errorf("a passphrase of %d bytes for file names: eCryptfs takes 1 to %d", len(passphrase), MaxPassphraseSize)
	}
	salted := append(nameSalt[:], passphrase...)
	key := sha512.Sum512(salted)
	clear(salted)
	defer clear(key[:])
	for range hashIterations - 1 {
		key = sha512.Sum512(key[:])
	}
	named := sha512.Sum512(key[:])
	t := &Token{Signature: Signature(hex.EncodeToString(named[:signatureLen/2])), payload: newToken(typePassphrase)}
	part := t.payload[tokenPart:]
	binary.LittleEndian.PutUint32(part[4:], hashSHA512)
	binary.LittleEndian.PutUint32(part[8:], hashIterations)
	binary.LittleEndian.PutUint32(part[12:], nameKeyBytes)
	binary.LittleEndian.PutUint32(part[16:], flagKeyDerived)
	copy(part[20:], key[:])
	copy(part[84:], t.Signature)
	copy(part[101:], nameSalt[:])
	return t, nil
}
