package chip20

import (
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"maclef/internal/chip"
	"sync/atomic"

	"github.com/google/go-tpm/tpm2"
)

// unpadPKCS1 returns where the message in a decrypted block begins; valid is 0 if the padding is
// wrong. It runs in constant time. RFC 8017, section 7.2.2 (RSAES-PKCS1-v1_5).
func unpadPKCS1(block []byte) (index, valid int) {
	if len(block) < 11 {
		return 0, 0
	}
	looking := 1
	for i, b := range block[2:] {
		zero := subtle.ConstantTimeByteEq(b, 0)
		index = subtle.ConstantTimeSelect(looking&zero, i+3, index)
		looking = subtle.ConstantTimeSelect(zero, 0, looking)
	}
	valid = subtle.ConstantTimeByteEq(block[0], 0) & subtle.ConstantTimeByteEq(block[1], 2)
	valid &= subtle.ConstantTimeLessOrEq(11, index) & (looking ^ 1)
	return index, valid
}

// openPKCS1 returns the message in a decrypted block.
func openPKCS1(block []byte) ([]byte, error) {
	index, valid := unpadPKCS1(block)
	if valid != 1 {
		return nil, chip.ErrDecryption
	}
	return block[index:], nil
}

// openSessionKey returns the session key of n bytes in a decrypted block, or n+1 bytes if the
// padding is wrong. It runs in constant time, as does chip.ChooseSessionKey, which gets the
// result.
func openSessionKey(block []byte, n int) ([]byte, error) {
	if len(block) < n+11 {
		return nil, chip.ErrDecryption
	}
	index, valid := unpadPKCS1(block)
	valid &= subtle.ConstantTimeEq(int32(len(block)-index), int32(n))
	return block[len(block)-n-1+valid:], nil
}

// An oaep has the parameters of an OAEP encryption.
type oaep struct {
	hash, mgf crypto.Hash
	label     []byte
}

// open returns the message in a decrypted block, and overwrites the block. It runs in constant
// time, because of J. Manger, A Chosen Ciphertext Attack on RSA Optimal Asymmetric Encryption
// Padding (2001). RFC 8017, section 7.1.2.
func (o *oaep) open(block []byte) ([]byte, error) {
	size := o.hash.Size()
	if len(block) < 2*size+2 {
		return nil, chip.ErrDecryption
	}
	seed, db := block[1:1+size], block[1+size:]
	mgf1XOR(seed, o.mgf, db)
	mgf1XOR(db, o.mgf, seed)
	h := o.hash.New()
	h.Write(o.label)
	good := subtle.ConstantTimeByteEq(block[0], 0) & subtle.ConstantTimeCompare(h.Sum(nil), db[:size])
	// After the label: zeros, a one, and the message.
	rest := db[size:]
	index, looking, bad := 0, 1, 0
	for i, b := range rest {
		zero, one := subtle.ConstantTimeByteEq(b, 0), subtle.ConstantTimeByteEq(b, 1)
		index = subtle.ConstantTimeSelect(looking&one, i+1, index)
		looking = subtle.ConstantTimeSelect(one, 0, looking)
		bad = subtle.ConstantTimeSelect(looking&(zero^1), 1, bad)
	}
	if good&(bad^1)&(looking^1) != 1 {
		return nil, chip.ErrDecryption
	}
	return rest[index:], nil
}

// mgf1XOR XORs out with the mask that MGF1 generates from seed. RFC 8017, appendix B.2.1 (MGF1).
func mgf1XOR(out []byte, hash crypto.Hash, seed []byte) {
	h := hash.New()
	var counter [4]byte
	for i := uint32(0); len(out) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		h.Reset()
		h.Write(seed)
		h.Write(counter[:])
		out = out[subtle.XORBytes(out, out, h.Sum(nil)):]
	}
}

// signPSS returns the plan of an RSA-PSS signature with the salt length of o. If the key decrypts
// without a scheme, the padding is added in software; otherwise TPM2_Sign adds it, and the TPM
// determines the salt length.
func (k *keyOps) signPSS(digest []byte, o *rsa.PSSOptions) (*signPlan, error) {
	if !o.Hash.Available() {
		return nil, fmt.Errorf("%w: RSA-PSS with %s: set PSSOptions.Hash to a hash whose package the program imports", chip.ErrNotSupported, chip.HashName(o.Hash))
	}
	if err := checkDigest(o.Hash, digest); err != nil {
		return nil, err
	}
	salt, err := pssSaltLength(k.rsa, o)
	if err != nil {
		return nil, err
	}
	if k.decryptsRaw() {
		return k.signPSSRaw(digest, o.Hash, salt)
	}
	return k.signPSSByTPM(digest, o, salt)
}

// pssSaltLength returns the salt length that crypto/rsa uses for o.
func pssSaltLength(public *rsa.PublicKey, o *rsa.PSSOptions) (int, error) {
	n, room := o.SaltLength, maxPSSSalt(public, o.Hash)
	switch {
	case n == rsa.PSSSaltLengthEqualsHash:
		n = o.Hash.Size()
	case n < 0:
		return 0, fmt.Errorf("%w: a PSS salt length of %d", chip.ErrNotSupported, n)
	case n == rsa.PSSSaltLengthAuto && fips140.Enabled():
		n = max(0, min(room, o.Hash.Size()))
	case n == rsa.PSSSaltLengthAuto:
		n = max(0, room)
	}
	if n > room {
		return 0, fmt.Errorf("%w: a %d-bit key has no room for RSA-PSS with %s and a salt of %d bytes", chip.ErrNotSupported, public.N.BitLen(), o.Hash, n)
	}
	return n, nil
}

// maxPSSSalt returns the maximum salt length, negative if the key is too small for the digest. RFC
// 8017, section 9.1.1, step 3.
func maxPSSSalt(public *rsa.PublicKey, hash crypto.Hash) int {
	return (public.N.BitLen()-1+7)/8 - hash.Size() - 2
}

func (k *keyOps) signPSSRaw(digest []byte, hash crypto.Hash, saltLength int) (*signPlan, error) {
	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	return k.signRaw(emsaPSS(k.rsa, hash, digest, salt)), nil
}

// emsaPSS returns the padded block of an RSA-PSS signature, as long as the key. RFC 8017, section
// 9.1.1 (EMSA-PSS-ENCODE).
func emsaPSS(public *rsa.PublicKey, hash crypto.Hash, digest, salt []byte) []byte {
	bits := public.N.BitLen() - 1
	block := make([]byte, public.Size())
	em := block[len(block)-(bits+7)/8:] // one byte shorter if the modulus has 8n+1 bits
	db := em[:len(em)-hash.Size()-1]
	db[len(db)-len(salt)-1] = 1
	copy(db[len(db)-len(salt):], salt)
	h := hash.New()
	h.Write(make([]byte, 8))
	h.Write(digest)
	h.Write(salt)
	mask := h.Sum(nil)
	copy(em[len(db):], mask)
	mgf1XOR(db, hash, mask)
	em[0] &= 0xff >> (8*len(em) - bits)
	em[len(em)-1] = 0xbc
	return block
}

func (k *keyOps) signPSSByTPM(digest []byte, o *rsa.PSSOptions, salt int) (*signPlan, error) {
	alg := algOf(o.Hash)
	if !k.tpmSigns(tpm2.TPMAlgRSAPSS, alg) {
		return nil, k.cannotSign("RSA-PSS", o.Hash)
	}
	if o.SaltLength == rsa.PSSSaltLengthAuto {
		salt = anySalt
	} else if n, known := k.can.salt.length(o.Hash, maxPSSSalt(k.rsa, o.Hash)); known && n != salt {
		return nil, wrongSalt(salt)
	}
	s := k.signTPM(tpm2.TPMAlgRSAPSS, alg, digest)
	s.unsure = salt != anySalt && k.can.salt.kind.Load() == saltUnknown
	s.verify = func(sig []byte) error { return k.can.salt.check(k.rsa, o.Hash, digest, sig, salt) }
	return s, nil
}

// anySalt stands for any salt length.
const anySalt = -1

func wrongSalt(n int) error {
	return fmt.Errorf("%w: this TPM makes RSA-PSS signatures with a salt of another length than the %d bytes asked for; "+
		"use PKCS#1 v1.5 (in TLS: version 1.2), or a key that signs and decrypts", chip.ErrKeyLimits, n)
}

// A pssSalt is what is known about the salt length of TPM2_Sign with RSA-PSS, which the
// specification leaves to the TPM: older TPMs use the longest possible salt, newer ones the
// length of the hash. TPM 2.0 Library Part 1, annex B.7 (RSAPSS).
type pssSalt struct{ kind atomic.Int32 }

const (
	saltUnknown int32 = iota
	saltAsHash
	saltLongest
	saltOther
)

// length returns the TPM's salt length for a hash. room is the maximum length.
func (p *pssSalt) length(hash crypto.Hash, room int) (n int, known bool) {
	switch p.kind.Load() {
	case saltAsHash:
		return hash.Size(), hash.Size() <= room
	case saltLongest:
		return room, true
	}
	return 0, false
}

// check verifies a signature of the TPM, and stores what it shows about the salt length.
func (p *pssSalt) check(public *rsa.PublicKey, hash crypto.Hash, digest, sig []byte, want int) error {
	right := func(n int) bool {
		return rsa.VerifyPSS(public, hash, digest, sig, &rsa.PSSOptions{SaltLength: n}) == nil
	}
	size, room := hash.Size(), maxPSSSalt(public, hash)
	made, kind := 0, saltOther
	switch {
	case right(size):
		made, kind = size, saltAsHash
	case room > 0 && right(room):
		made, kind = room, saltLongest
	case !right(rsa.PSSSaltLengthAuto):
		return chip.ErrBadSignature
	case want > 0 && right(want):
		made = want
	}
	if size < room { // else the two cannot be read apart
		p.kind.Store(kind)
	}
	if want != anySalt && want != made {
		return wrongSalt(want)
	}
	return nil
}
