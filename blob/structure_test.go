package blob

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// edit returns raw with the bytes at offset replaced.
func edit(raw []byte, offset int, with ...byte) []byte {
	b := bytes.Clone(raw)
	copy(b[offset:], with)
	return b
}

// Offsets in a TPM_KEY without exponent and PCRInfo.
const (
	atUsage     = 4
	atFlags     = 6
	atAuth      = 10
	atAlgorithm = 11
	atEnc       = 15
	atSig       = 17
	atParms     = 19
	atKeyLength = 23
	atNumPrimes = 27
	atExponent  = 31
	atPCRInfo   = 35
	atModulus   = 39
)

func TestDamagedStructure(t *testing.T) {
	raw := readFile(t, tutorial+"/maclef.raw")
	atEncData := atModulus + 4 + 256
	for _, c := range []struct {
		name string
		data []byte
		want string
		is   error
	}{
		{"usage", edit(raw, atUsage, 0, 0x17), "keyUsage is 0x0017", ErrDamaged},
		{"no usage", edit(raw, atUsage, 0, 0), "keyUsage is 0x0000", ErrDamaged},
		{"flags", edit(raw, atFlags, 0, 0, 1, 4), "keyFlags is 0x00000104", ErrDamaged},
		{"authDataUsage", edit(raw, atAuth, 2), "authDataUsage is 0x02", ErrDamaged},
		{"algorithm", edit(raw, atAlgorithm, 0, 0, 0, 6), "algorithmID is 0x00000006", ErrDamaged},
		{"encScheme", edit(raw, atEnc, 0, 4), "encScheme is 0x0004", ErrDamaged},
		{"sigScheme", edit(raw, atSig, 0, 5), "sigScheme is 0x0005", ErrDamaged},
		{"parms too long", edit(raw, atParms, 0, 0, 0, 13), "1 bytes too many at the end of parms", ErrDamaged},
		{"parms too short", edit(raw, atParms, 0, 0, 0, 11), "exponentSize needs 4 bytes, 3 left at offset 8", ErrDamaged},
		{"parms huge", edit(raw, atParms, 0xff, 0xff, 0xff, 0xff), "parms of 4294967295 bytes is larger than any", ErrDamaged},
		{"parms long", edit(raw, atParms, 0, 0, 0xff, 0xff), "parms needs 65535 bytes, 536 left at offset 23", ErrTruncated},
		{"keyLength", edit(raw, atKeyLength, 0, 0, 4, 0), "modulus has 2048 bits, and keyLength says 1024", ErrDamaged},
		{"keyLength odd", edit(raw, atKeyLength, 0, 0, 8, 1), "keyLength is 2049 bits", ErrDamaged},
		{"keyLength huge", edit(raw, atKeyLength, 0xff, 0xff, 0xff, 0xf8), "keyLength is 4294967288 bits", ErrDamaged},
		{"primes", edit(raw, atNumPrimes, 0, 0, 0, 3), "numPrimes is 3", ErrDamaged},
		{"exponent outside parms", edit(raw, atExponent, 0, 0, 0, 1), "exponent needs 1 bytes, 0 left at offset 12", ErrDamaged},
		{"PCRInfo", edit(raw, atPCRInfo, 0, 0, 0, 1), "modulus of 65733 bytes is larger than any", ErrDamaged},
		{"modulus empty", edit(raw, atModulus, 0, 0, 0, 0), "encData of 3318034963 bytes is larger than any", ErrDamaged},
		{"modulus short", edit(raw, atModulus+4, 0), "begins with a zero byte", ErrDamaged},
		{"modulus even", edit(raw, atEncData-1, 2), "even number", ErrDamaged},
		{"encData empty", edit(raw, atEncData, 0, 0, 0, 0)[:atEncData+4], "encData has 0 bytes", ErrDamaged},
		{"encData short", edit(raw, atEncData, 0, 0, 0, 255)[:atEncData+4+255], "encData has 255 bytes", ErrDamaged},
		{"encData leaves bytes", edit(raw, atEncData, 0, 0, 0, 255), "1 bytes too many at the end of TPM_KEY", ErrDamaged},
		{"trailing newline", append(bytes.Clone(raw), '\n'), "1 bytes too many at the end of TPM_KEY", ErrDamaged},
		{"cut in the modulus", raw[:atModulus+4+100], "truncated: modulus needs 256 bytes, 100 left at offset 43", ErrTruncated},
		{"cut in the version", raw[:3], "truncated: version needs 4 bytes, 3 left at offset 0", ErrTruncated},
		{"other version", edit(raw, 0, 1, 2), "not a TPM key file", nil},
		{"KEY12 with a fill", edit(raw, 0, 0, 0x28, 0, 1), "not a TPM key file", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want one with %q that is %v", err, c.want, c.is)
			}
		})
	}
}

func TestExponent(t *testing.T) {
	for _, c := range []struct {
		exponent []byte
		want     int // 0: an error
	}{
		{nil, 65537},
		{[]byte{3}, 3},
		{[]byte{17}, 17},
		{[]byte{1, 0, 1}, 65537},
		{[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}, 65537},
		{[]byte{0x7f, 0xff, 0xff, 0xff}, math.MaxInt32},
		{[]byte{0}, 0},
		{[]byte{1}, 0},
		{[]byte{2}, 0},
		{[]byte{1, 0, 0}, 0},
		{[]byte{0x80, 0, 0, 0, 0, 0, 0, 1}, 0},
		{bytes.Repeat([]byte{0xff}, 256), 0},
	} {
		k := mustParse(t, tutorial+"/maclef")
		k.Exponent = c.exponent
		got, err := parseAs[*TPMKey](k.Bytes())
		if c.want == 0 {
			if err == nil || !strings.Contains(err.Error(), "public exponent") || k.PublicKey() != nil {
				t.Errorf("exponent %x: error %v, public key %v", c.exponent, err, k.PublicKey() != nil)
			}
			continue
		}
		if err != nil || got.PublicKey().(*rsa.PublicKey).E != c.want || !bytes.Equal(got.Bytes(), k.Bytes()) {
			t.Errorf("exponent %x: error %v, or not %d, or written back differently", c.exponent, err, c.want)
		}
	}
}

// pcrSelection writes a TPM_PCR_SELECTION.
func pcrSelection(bitmap ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(bitmap))), bitmap...)
}

func TestPCRs(t *testing.T) {
	digests := make([]byte, 40)
	long := slices.Concat([]byte{0, 6, 1, 0x1f}, pcrSelection(0xff, 0, 0), pcrSelection(0x80, 0, 0x80), digests)
	for _, c := range []struct {
		name  string
		key12 bool
		info  []byte
		want  []int
		err   string
	}{
		{"none", false, nil, nil, ""},
		{"none in KEY12", true, nil, nil, ""},
		{"two bytes", false, slices.Concat(pcrSelection(0x11, 0x80), digests), []int{0, 4, 15}, ""},
		{"three bytes", false, slices.Concat(pcrSelection(0, 0, 0x81), digests), []int{16, 23}, ""},
		{"nothing selected", false, slices.Concat(pcrSelection(0, 0, 0), digests), nil, ""},
		{"long", true, long, []int{7, 23}, ""},
		{"long with another tag", true, edit(long, 1, 7), nil, "PCRInfo has tag 0x0007"},
		{"short in KEY12", true, slices.Concat(pcrSelection(1, 0, 0), digests), nil, "PCRInfo has tag 0x0003"},
		{"digest cut", false, slices.Concat(pcrSelection(1, 0, 0), digests[1:]), nil, "PCR digest needs 20 bytes, 19 left"},
		{"byte too many", false, slices.Concat(pcrSelection(1, 0, 0), digests, []byte{0}), nil, "1 bytes too many at the end of PCRInfo"},
		{"selection too large", false, slices.Concat(pcrSelection(make([]byte, 33)...), digests), nil, "more PCRs than any TPM has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := mustParse(t, tutorial+"/maclef")
			k.Key12, k.PCRInfo = c.key12, c.info
			got, err := k.PCRs()
			if fmt.Sprint(got) != fmt.Sprint(c.want) || (err == nil) != (c.err == "") {
				t.Errorf("got %v, %v", got, err)
			}
			p, err := parseAs[*TPMKey](k.Bytes())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("Parse: %v", err)
				}
				return
			}
			if err != nil || p.Key12 != c.key12 || !bytes.Equal(p.PCRInfo, c.info) {
				t.Errorf("Parse: %v, or other fields", err)
			}
		})
	}
}
