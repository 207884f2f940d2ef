package tpm20

import (
	"crypto/aes"
	"crypto/subtle"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// aesBits is the size of the key that hides parameters.
const aesBits = 128

// crypt encrypts or decrypts a parameter in place, by a key of the session's, the
// auth value of what it authorizes, and both nonces. Part 1, section 21.3 (CFB mode
// parameter encryption).
func (u *use) crypt(param, newer, older []byte, encrypt bool) {
	value := slices.Concat(u.key, u.auth)
	key := tpm2.KDFa(u.hash, value, "CFB", newer, older, aesBits+8*aes.BlockSize)
	cfb(key[:aesBits/8], key[aesBits/8:], param, encrypt)
	clear(value)
	clear(key)
}

// cfb is AES in CFB mode with a block's feedback, which crypto/cipher has
// deprecated. iv is used up.
func cfb(key, iv, data []byte, encrypt bool) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // of a key whose size is constant
	}
	for len(data) > 0 {
		stream := make([]byte, aes.BlockSize)
		block.Encrypt(stream, iv)
		n := min(len(data), aes.BlockSize)
		if !encrypt {
			copy(iv, data[:n])
		}
		subtle.XORBytes(data[:n], data[:n], stream)
		if encrypt {
			copy(iv, data[:n])
		}
		data = data[n:]
	}
}
