package tpm12

import (
	"crypto/sha1"
	"encoding/binary"
	"hash"
)

// A hasher computes SHA-1 and HMAC-SHA-1 (RFC 2104) again and again. crypto/hmac
// would do, but it leaves the key behind in memory, and allocates on each use.
type hasher struct {
	sha1 hash.Hash
	pad  *[sha1.BlockSize]byte
	out  *[3 * sha1.Size]byte // digest of parameters, result, scratch
}

func newHasher() hasher {
	return hasher{sha1: sha1.New(), pad: new([sha1.BlockSize]byte), out: new([3 * sha1.Size]byte)}
}

// digest returns SHA-1 of numbers and parameters, valid until the next call.
func (h *hasher) digest(params []byte, numbers ...uint32) []byte {
	scratch := h.out[2*sha1.Size:]
	h.sha1.Reset()
	for _, n := range numbers {
		binary.BigEndian.PutUint32(scratch, n)
		h.sha1.Write(scratch[:4])
	}
	h.sha1.Write(params)
	return h.sha1.Sum(h.out[:0:sha1.Size])
}

// authData returns the HMAC of an authorization, valid until the next call. TPM
// Main Part 1, "Object-Independent Authorization Protocol".
func (h *hasher) authData(key *Secret, paramDigest []byte, even, odd *nonce, goOn byte) []byte {
	scratch := h.out[2*sha1.Size:]
	scratch[0] = goOn
	return h.hmac(key, paramDigest, even[:], odd[:], scratch[:1])
}

// hmac returns the HMAC of some parts, valid until the next call.
func (h *hasher) hmac(key *Secret, parts ...[]byte) []byte {
	h.start(key, 0x36)
	for _, part := range parts {
		h.sha1.Write(part)
	}
	sum := h.sha1.Sum(h.out[sha1.Size : sha1.Size : 2*sha1.Size])
	h.start(key, 0x5c)
	h.sha1.Write(sum)
	sum = h.sha1.Sum(sum[:0])
	h.sha1.Reset()
	clear(h.pad[:])
	return sum
}

// start begins with the key, padded to a block of pad.
func (h *hasher) start(key *Secret, pad byte) {
	for i := range h.pad {
		h.pad[i] = pad
	}
	for i := range key {
		h.pad[i] ^= key[i]
	}
	h.sha1.Reset()
	h.sha1.Write(h.pad[:])
}
