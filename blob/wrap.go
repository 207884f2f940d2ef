package blob

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"

	"maclef/internal/softkey"
)

// payloadAsym is TPM_PT_ASYM, the payload of a private key.
//
// TPM Main Part 2, section 4.2 (TPM_PAYLOAD_TYPE)
const payloadAsym = 0x01

// oaepLabel is the OAEP label that a TPM 1.2 requires.
//
// TPM Main Part 1, section 31.1.1 (TPM_ES_RSAESOAEP_SHA1_MGF1)
const oaepLabel = "TCPA"

// Wrap makes a key file from an RSA software key. It encrypts the private part for parent, the
// public SRK of the target TPM from [ParsePubKey]. The key is migratable, which the specification
// requires for keys that others know.
//
// priv has two primes of half the modulus' size, and 512, 1024 or 2048 bits. random nil means
// [rand.Reader]. Errors say what in priv, parent or tmpl does not fit, but never contain a value of
// priv.
//
// TPM Main Part 2, sections 10.6 (TPM_STORE_ASYMKEY) and 10.7
// (TPM_STORE_PRIVKEY)
func Wrap(random io.Reader, priv *rsa.PrivateKey, parent *rsa.PublicKey, tmpl Template) (*TPMKey, error) {
	if err := softkey.CheckRSA(priv, "TPM 1.2", 512, 1024, 2048); err != nil {
		return nil, err
	}
	if parent == nil || parent.N == nil || parent.N.BitLen() < 2048 {
		return nil, errors.New("the parent is no RSA key of 2048 bits or more, as a TPM's SRK is; give the SRK's public key")
	}
	if tmpl.Bits != 0 && tmpl.Bits != priv.N.BitLen() {
		return nil, fmt.Errorf("the key to wrap has %d bits, and %d were asked for; leave the size out", priv.N.BitLen(), tmpl.Bits)
	}
	if !tmpl.NeedSecret && tmpl.UsageAuth != [20]byte{} {
		return nil, errors.New("a secret is given for a key to wrap that needs none; set NeedSecret or leave UsageAuth out")
	}
	tmpl.Bits = priv.N.BitLen()
	k, err := NewTemplate(tmpl)
	if err != nil {
		return nil, err
	}
	k.Flags |= Migratable
	k.Modulus = priv.N.FillBytes(make([]byte, tmpl.Bits/8))
	if priv.E != defaultExponent {
		k.Exponent = big.NewInt(int64(priv.E)).Bytes()
	}
	if random == nil {
		random = rand.Reader
	}
	private := k.storeAsymkey(priv.Primes[0], tmpl)
	defer clear(private)
	k.EncData, err = rsa.EncryptOAEP(sha1.New(), random, parent, private, []byte(oaepLabel))
	if err != nil {
		return nil, fmt.Errorf("encrypt the private part of the key to wrap for its parent: %w", err)
	}
	return k, nil
}

// storeAsymkey returns the plaintext private part of k.
//
//	payload        uint8, 01
//	usageAuth      20 bytes
//	migrationAuth  20 bytes
//	pubDataDigest  20 bytes, SHA-1 of TPM_KEY without encDataSize and encData
//	privKey        uint32 size, one prime
//
// TPM Main Part 2, section 10.6 (TPM_STORE_ASYMKEY)
func (k *TPMKey) storeAsymkey(prime *big.Int, t Template) []byte {
	size := int(k.KeyLength) / 16
	digest := sha1.Sum(k.publicBytes())
	b := make([]byte, 0, 1+3*sha1.Size+4+size)
	b = append(b, payloadAsym)
	b = append(b, t.UsageAuth[:]...)
	b = append(b, t.MigrationAuth[:]...)
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = b[:len(b)+size]
	prime.FillBytes(b[len(b)-size:])
	return b
}
