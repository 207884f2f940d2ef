package ecryptfs

import (
	"encoding/binary"
	"errors"
)

// aesKeyBytes are the key sizes of eCryptfs's cipher codes for AES: RFC 2440,
// section 9.2.
var aesKeyBytes = map[byte]int{7: 16, 8: 24, 9: 32}

// FileKeySize is the size of a file key as it is wrapped, for a cipher key of so
// many bytes: cipher code, key, checksum.
func FileKeySize(keyBytes int) int { return 1 + keyBytes + 2 }

// CheckFileKey returns why key is no file key of eCryptfs, as the kernel has them
// wrapped:
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
		return errors.New("a file key of another length than its cipher has")
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
