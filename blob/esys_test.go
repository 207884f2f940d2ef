package blob

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestESYSObject(t *testing.T) {
	data := readFile(t, tpm20Files+"/srk.esys")
	k, err := parseAs[*TSS2](data)
	if err != nil {
		t.Fatal(err)
	}
	if k.Handle != 0x81000001 || k.Container() != ESYSObject || k.PublicKey() == nil || !k.NeedsSecret() || k.CanSign() || k.Guessed() {
		t.Errorf("%+v", k)
	}
	for c := TSS2PEM; c <= TSS2Pair; c++ {
		if _, err := k.Marshal(c); err == nil || !strings.Contains(err.Error(), "stays in its TPM") {
			t.Errorf("%v: %v", c, err)
		}
	}
	const kind, modulus = 4 + 2 + 34, 200
	for _, c := range []struct {
		name string
		data []byte
		want string
		is   error
	}{
		{"cut in the name", data[:20], "an ESYS object ends in its first fields, after 20 bytes", ErrTruncated},
		{"cut in the type", data[:kind+3], "an ESYS object ends in its first fields, after 43 bytes", ErrTruncated},
		{"cut in the public area", data[:len(data)-1], "truncated: public area needs 282 bytes, 281 left at offset 2", ErrTruncated},
		{"more behind", append(bytes.Clone(data), 0), "1 bytes too many after public area", ErrDamaged},
		{"an NV index", edit(data, kind+3, 2), "type of the ESYS object is 2, and that of keys is 1", ErrDamaged},
		{"another modulus", edit(data, modulus, data[modulus]^1), "the name in the ESYS object is not that of its public area", ErrDamaged},
		{"a transient handle", edit(data, 0, 0x80), "not a TPM key file", nil},
	} {
		if _, err := Parse(c.data); err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
