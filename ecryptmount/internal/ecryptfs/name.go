package ecryptfs

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// NamePrefix begins every encrypted file name.
const NamePrefix = "ECRYPTFS_FNEK_ENCRYPTED."

// tag70 is an encrypted file name.
const tag70 = 0x46

// nameEncoding is what crypto.c calls portable_filename_chars: six bits each.
var nameEncoding = base64.NewEncoding("-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz").
	WithPadding(base64.NoPadding)

// ErrPlainName is a file name that eCryptfs did not encrypt.
var ErrPlainName = errors.New("a file name that is not encrypted")

// ParseName returns which token a file name in a lower directory was encrypted
// with. Behind the prefix stand, in the encoding of file names: 0x46, a length,
// the signature (8 bytes), a cipher code, and the name. The error is ErrPlainName
// for a name without the prefix.
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
