package blob

import (
	"bytes"
	"encoding/hex"
)

// simpleTPMPK11 has the lines of an stpm-keygen file.
type simpleTPMPK11 struct {
	exp, mod, blob []byte
}

// isSimpleTPMPK11 reports whether the first line of b, apart from empty lines and comments, begins
// with a keyword of the format, or any line is one of the format.
func isSimpleTPMPK11(b []byte) bool {
	first := true
	for rest := b; len(rest) > 0; {
		var word, value []byte
		word, value, rest = nextEntry(rest)
		switch string(word) {
		case "":
			continue
		case "exp", "mod", "blob":
			if first || isHex(value) {
				return true
			}
		}
		first = false
	}
	return false
}

// isHex reports whether a value is that of a line of the format: at least the three bytes of the
// usual exponent.
func isHex(value []byte) bool {
	return len(value) >= 6 && len(bytes.Trim(value, "0123456789abcdefABCDEF")) == 0
}

// nextEntry splits the first line of b into keyword and value. The keyword of an empty line or a
// comment is empty.
func nextEntry(b []byte) (word, value, rest []byte) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	line = trimLine(line)
	if bytes.HasPrefix(line, []byte("#")) {
		return nil, nil, rest
	}
	word, value, _ = bytes.Cut(line, []byte(" "))
	return word, value, rest
}

// parseSimpleTPMPK11 parses the lines exp, mod and blob, and checks that exp and mod match blob.
func parseSimpleTPMPK11(b []byte) (*TPMKey, error) {
	var f simpleTPMPK11
	number := 0
	for rest := b; len(rest) > 0; {
		var word, value []byte
		word, value, rest = nextEntry(rest)
		number++
		if len(rest) == 0 && cutWord(word) {
			return nil, truncated("line %d ends in its first word", number)
		}
		if err := f.set(string(word), value, number); err != nil {
			return nil, err
		}
	}
	for _, line := range []struct {
		name  string
		value []byte
	}{{"exp", f.exp}, {"mod", f.mod}, {"blob", f.blob}} {
		if line.value == nil {
			return nil, truncated("no line %q up to the end, line %d", line.name, number)
		}
	}
	k, err := parseStructure(f.blob)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(trimZeros(f.exp), trimZeros(k.explicitExponent())) {
		return nil, damaged("the line \"exp\" is not the public exponent in the line \"blob\"")
	}
	if !bytes.Equal(trimZeros(f.mod), k.Modulus) {
		return nil, damaged("the line \"mod\" is not the modulus in the line \"blob\"")
	}
	return k, nil
}

// cutWord reports whether word is the beginning of a keyword.
func cutWord(word []byte) bool {
	switch string(word) {
	case "e", "ex", "m", "mo", "b", "bl", "blo":
		return true
	}
	return false
}

// set stores one line.
func (f *simpleTPMPK11) set(word string, value []byte, number int) error {
	var field *[]byte
	switch word {
	case "":
		return nil
	case "exp":
		field = &f.exp
	case "mod":
		field = &f.mod
	case "blob":
		field = &f.blob
	default:
		return damaged("line %d of this simple-tpm-pk11 file is neither a comment nor one of \"exp\", \"mod\" and \"blob\" in hexadecimal", number)
	}
	if *field != nil {
		return damaged("line %d is a second line %q", number, word)
	}
	*field = make([]byte, len(value)/2)
	n, err := hex.Decode(*field, value)
	switch {
	case err == hex.ErrLength:
		return truncated("line %d, %q, ends in the middle of a byte", number, word)
	case err != nil:
		return damaged("line %d, %q, is not hexadecimal after %d bytes", number, word, n)
	}
	return nil
}

func trimZeros(b []byte) []byte { return bytes.TrimLeft(b, "\x00") }

// explicitExponent returns the public exponent, also if it is the default.
func (k *TPMKey) explicitExponent() []byte {
	if len(k.Exponent) == 0 {
		return []byte{1, 0, 1}
	}
	return k.Exponent
}

// marshalSimpleTPMPK11 writes the file of stpm-keygen, which makes only migratable wrapped keys.
func (k *TPMKey) marshalSimpleTPMPK11() []byte {
	origin := "hardware"
	if k.Migratable() {
		origin = "software"
	}
	key := k.Bytes()
	b := make([]byte, 0, 128+2*(len(k.Exponent)+len(k.Modulus)+len(key)))
	b = append(b, "# Some sort of key.\n# Key was generated in "+origin+".\nexp "...)
	b = hex.AppendEncode(b, k.explicitExponent())
	b = append(b, "\nmod "...)
	b = hex.AppendEncode(b, k.Modulus)
	b = append(b, "\nblob "...)
	b = hex.AppendEncode(b, key)
	return append(b, '\n')
}
