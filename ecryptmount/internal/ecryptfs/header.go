package ecryptfs

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// HeaderPrefix is the number of bytes of a file that ParseHeader needs.
const HeaderPrefix = 4096

// marker is MAGIC_ECRYPTFS_MARKER.
const marker = 0x3c81b7f5

// Packets in a header.
const (
	tag1  = 0x01 // file key, wrapped with a public key
	tag3  = 0x8c // file key, wrapped with a passphrase
	tag11 = 0xed // signature of a tag 3 packet
)

// ErrNotEncrypted says that eCryptfs did not write the file.
var ErrNotEncrypted = errors.New("not encrypted by eCryptfs")

// A Header is the beginning of a lower file.
type Header struct {
	Keys []WrappedKey // in the order of the file
}

// A WrappedKey is a file's key, wrapped for one token.
type WrappedKey struct {
	Signature  Signature
	Passphrase bool   // the token is a passphrase
	Wrapped    []byte // part of the parsed bytes; nil with Passphrase
}

// For returns the key that is wrapped for a public-key token, nil if there is none.
func (h *Header) For(signature Signature) []byte {
	for _, k := range h.Keys {
		if k.Signature == signature && !k.Passphrase {
			return k.Wrapped
		}
	}
	return nil
}

// ParseHeader parses the first HeaderPrefix bytes of a lower file, or the whole file if it is
// shorter:
//
//	0   size of the file            u64
//	8   any number                  u32
//	12  the same xor 0x3c81b7f5     u32
//	16  file format version: 3
//	19  flags: 2, encrypted
//	20  size of a header extent     u32
//	24  header extents              u16
//	26  packets: tag 1, or tag 3 and tag 11; anything else ends them
//
// All numbers are big-endian. The error is ErrNotEncrypted for any other kind of file.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) < 26 || binary.BigEndian.Uint32(b[8:])^marker != binary.BigEndian.Uint32(b[12:]) {
		return nil, ErrNotEncrypted
	}
	if b[16] > 3 {
		return nil, fmt.Errorf("file format version %d of eCryptfs, which is newer than 3", b[16])
	}
	h := new(Header)
	for rest := b[26:]; len(rest) > 0; {
		var (
			key *WrappedKey
			err error
		)
		switch rest[0] {
		case tag1:
			key, rest, err = cutTag1(rest[1:])
		case tag3:
			key, rest, err = cutTag3(rest[1:])
		default:
			rest = nil
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("a damaged eCryptfs header: %w", err)
		}
		h.Keys = append(h.Keys, *key)
	}
	if len(h.Keys) == 0 {
		return nil, errors.New("a damaged eCryptfs header: it has no key")
	}
	return h, nil
}

// cutTag1 cuts the rest of a tag 1 packet off b: length, version 3, signature (8 bytes), algorithm,
// wrapped key.
func cutTag1(b []byte) (*WrappedKey, []byte, error) {
	body, rest, err := cutBlock(b)
	if err != nil {
		return nil, nil, err
	}
	if len(body) <= 10 || len(body)-10 > maxWrapped || body[0] != 3 {
		return nil, nil, errors.New("its key packet is malformed")
	}
	return &WrappedKey{Signature: Signature(hex.EncodeToString(body[1:9])), Wrapped: body[10:]}, rest, nil
}

// cutTag3 cuts the rest of a tag 3 packet and the following tag 11 packet off b. In a tag 11 packet
// the signature follows 14 other bytes.
func cutTag3(b []byte) (*WrappedKey, []byte, error) {
	_, rest, err := cutBlock(b)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) == 0 || rest[0] != tag11 {
		return nil, nil, errors.New("its passphrase packet has no signature")
	}
	body, rest, err := cutBlock(rest[1:])
	if err != nil {
		return nil, nil, err
	}
	if len(body) != 14+signatureLen/2 {
		return nil, nil, errors.New("its signature packet is malformed")
	}
	return &WrappedKey{Signature: Signature(hex.EncodeToString(body[14:])), Passphrase: true}, rest, nil
}
