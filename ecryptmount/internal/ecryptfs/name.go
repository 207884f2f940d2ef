package ecryptfs

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// NamePrefix is the beginning of every encrypted file name.
const NamePrefix = "ECRYPTFS_FNEK_ENCRYPTED."

// tag70 begins an encrypted file name.
const tag70 = 0x46

// nameEncoding is portable_filename_chars in the kernel's crypto.c: six bits a character.
var nameEncoding = base64.NewEncoding("-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz").
	WithPadding(base64.NoPadding)

// ErrPlainName says that eCryptfs did not encrypt a file name.
var ErrPlainName = errors.New("a file name that is not encrypted")

// ParseName returns the token that encrypted a file name. After the prefix an encoded name contains
// 0x46, a length, the signature (8 bytes), a cipher code and the encrypted name. The error is
// ErrPlainName for a name without the prefix.
func ParseName(name string) (Signature, error) {
	text, ok := strings.CutPrefix(name, NamePrefix)
	if !ok {
		return "", ErrPlainName
	}
	raw, err := nameEncoding.DecodeString(text)
	if err != nil || len(raw) < 1 || raw[0] != tag70 {
		return "", errors.New("a damaged encrypted file name")
	}
	body, _, err := cutBlock(raw[1:])
	if err != nil || len(body) <= signatureLen/2+1 {
		return "", errors.New("a damaged encrypted file name")
	}
	return Signature(hex.EncodeToString(body[:signatureLen/2])), nil
}
