package ecryptfs

import "errors"

// maxLength is the longest length that fits into two bytes.
const maxLength = (223-192)<<8 + 255 + 192

var errLength = errors.New("invalid length")

// appendLength appends a length as in RFC 2440, section 4.2.2: one byte below 192, otherwise two. n
// is at most maxLength.
func appendLength(b []byte, n int) []byte {
	if n < 192 {
		return append(b, byte(n))
	}
	return append(b, byte((n-192)>>8+192), byte(n-192))
}

// cutLength cuts a length off the front of b.
func cutLength(b []byte) (n int, rest []byte, err error) {
	switch {
	case len(b) > 0 && b[0] < 192:
		return int(b[0]), b[1:], nil
	case len(b) > 1 && b[0] < 224:
		return int(b[0]-192)<<8 + int(b[1]) + 192, b[2:], nil
	}
	return 0, nil, errLength
}

// cutBlock cuts a length and that many bytes off the front of b. block is a part of b.
func cutBlock(b []byte) (block, rest []byte, err error) {
	n, rest, err := cutLength(b)
	if err != nil || n > len(rest) {
		return nil, nil, errLength
	}
	return rest[:n], rest[n:], nil
}
