package tpmkey

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"
)

// unpadPKCS1 finds where the message in a decrypted block begins; valid is 0 where
// there is none. The time that it takes tells neither. RFC 8017, section 7.2.2
// (RSAES-PKCS1-v1_5).
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
		return nil, errDecryption
	}
	return block[index:], nil
}

// openSessionKey returns the session key of n bytes in a decrypted block, and n+1
// bytes where there is none: the time that this takes does not tell which, and
// chooseSessionKey goes on in the same way.
func openSessionKey(block []byte, n int) ([]byte, error) {
	if len(block) < n+11 {
		return nil, errDecryption
	}
	index, valid := unpadPKCS1(block)
	valid &= subtle.ConstantTimeEq(int32(len(block)-index), int32(n))
	return block[len(block)-n-1+valid:], nil
}

// An oaep is the kind of OAEP that a message is encrypted with.
type oaep struct {
	hash, mgf crypto.Hash
	label     []byte
}

// open returns the message in a decrypted block, which it changes. The time that it
// takes does not tell what is wrong: J. Manger, A Chosen Ciphertext Attack on RSA
// Optimal Asymmetric Encryption Padding (2001). RFC 8017, section 7.1.2.
func (o *oaep) open(block []byte) ([]byte, error) {
	size := o.hash.Size()
	if len(block) < 2*size+2 {
		return nil, errDecryption
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
		return nil, errDecryption
	}
	return rest[index:], nil
}

// mgf1XOR masks out with what hash makes of seed. RFC 8017, appendix B.2.1 (MGF1).
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
