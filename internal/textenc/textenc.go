// Package textenc reads text files in the encodings that editors and shells write.
package textenc

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// UTF8 returns a text without its byte order mark, in UTF-8. If the mark says that the text is
// UTF-16, as Windows PowerShell writes what > redirects, the result is a new slice, and copied is
// true. Otherwise it is a part of b. A text without a mark is returned as it is.
func UTF8(b []byte) (text []byte, copied bool) {
	order := binary.ByteOrder(binary.LittleEndian)
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return bytes.TrimPrefix(b, []byte("\ufeff")), false
	}
	b = b[2:]
	text = make([]byte, 0, 3*len(b)/2+utf8.UTFMax) // does not grow, so that a secret leaves no copy
	for len(b) >= 2 {
		r := rune(order.Uint16(b))
		b = b[2:]
		if utf16.IsSurrogate(r) && len(b) >= 2 {
			if pair := utf16.DecodeRune(r, rune(order.Uint16(b))); pair != utf8.RuneError {
				r, b = pair, b[2:]
			}
		}
		text = utf8.AppendRune(text, r) // half a pair becomes utf8.RuneError
	}
	if len(b) > 0 {
		text = utf8.AppendRune(text, utf8.RuneError)
	}
	return text, true
}
