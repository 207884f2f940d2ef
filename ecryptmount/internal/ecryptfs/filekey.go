package ecryptfs

import (
	"encoding/binary"
	"errors"
)

// aesKeyBytes are the AES key sizes by cipher code: RFC 2440, section 9.2.
var aesKeyBytes = map[byte]int{7: 16, 8: 24, 9: 32}

// FileKeySize is the size of a file key before it is wrapped: cipher code, key and checksum.
func FileKeySize(keyBytes int) int { return 1 + keyBytes + 2 }

// CheckFileKey checks an unwrapped file key of eCryptfs:
//
//	0  cipher code
//	1  the key
//	   sum of the key's bytes modulo 65536, big-endian
func CheckFileKey(key []byte) error {
	if len(key) < FileKeySize(1) {
		return errors.New("too short for a file key of eCryptfs")
	}
	body, checksum := key[1:len(key)-2], key[len(key)-2:]
	if want, known := aesKeyBytes[key[0]]; known && want != len(body) {
		return errors.New("the length of the file key does not fit its cipher")
	}
	var sum uint16
	for _, b := range body {
		sum += uint16(b)
	}
	if sum != binary.BigEndian.Uint16(checksum) {
		return errors.New("a file key with a wrong checksum")
	}
	return nil
}
