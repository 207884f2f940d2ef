package ecryptfs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLength(t *testing.T) {
	tests := []struct {
		n    int
		want string
	}{
		{0, "00"}, {1, "01"}, {191, "bf"}, {192, "c000"}, {193, "c001"}, {447, "c0ff"}, {448, "c100"},
		{520, "c148"}, {maxLength, "dfff"},
	}
	for _, test := range tests {
		b := appendLength(nil, test.n)
		if got := hex.EncodeToString(b); got != test.want {
			t.Errorf("length %d is %s, want %s", test.n, got, test.want)
		}
		n, rest, err := cutLength(append(b, 7))
		if n != test.n || len(rest) != 1 || err != nil {
			t.Errorf("length %d was read as %d, %d bytes left, %v", test.n, n, len(rest), err)
		}
	}
	for _, bad := range []string{"", "c0", "e000", "ff00000001"} {
		if n, _, err := cutLength(unhex(t, bad)); err == nil {
			t.Errorf("%q is a length: %d", bad, n)
		}
	}
}

func TestPacket(t *testing.T) {
	for _, size := range []int{0, 1, 183, 184, 300, maxWrapped + 4} {
		p := &packet{kind: packetRequest, counter: 0x01020304, index: 0x0A0B0C0D, data: bytes.Repeat([]byte{9}, size)}
		b := p.bytes()
		if len(b) > maxPacket {
			t.Errorf("a packet with %d bytes of data has %d", size, len(b))
		}
		got, err := parsePacket(b)
		if err != nil {
			t.Fatalf("packet with %d bytes of data: %v", size, err)
		}
		if got.kind != p.kind || got.counter != p.counter || got.index != p.index || !bytes.Equal(got.data, p.data) {
			t.Errorf("packet with %d bytes of data became %+v", size, got)
		}
	}
	want := "67 01020304 0b 0d0c0b0a 03000000 4101 00"
	p := &packet{counter: 0x01020304, index: 0x0A0B0C0D}
	if got := p.answer([]byte{0x41, 1, 0}).bytes(); !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("answer %x, want %s", got, want)
	}
}

func TestPacketRefused(t *testing.T) {
	tests := []struct{ name, packet string }{
		{"empty", ""},
		{"no length", "66 00000001 c0"},
		{"too short for its length", "66 00000001 09 00000000 0100 0000"},
		{"too long for its length", "66 00000001 08 00000000 00000000 00"},
		{"no room for an index", "66 00000001 07 00000000 000000"},
		{"length of data too small", "66 00000001 09 00000000 00000000 00"},
		{"length of data too large", "66 00000001 09 00000000 02000000 00"},
		{"length of data huge", "66 00000001 09 00000000 ffffffff 00"},
		{"larger than any", "66" + strings.Repeat("00", maxPacket)},
	}
	for _, test := range tests {
		if p, err := parsePacket(unhex(t, test.packet)); err == nil || errors.Is(err, errAbandoned) {
			t.Errorf("%s: %+v, %v", test.name, p, err)
		}
	}
	if _, err := parsePacket(unhex(t, "66 00000001")); !errors.Is(err, errAbandoned) {
		t.Errorf("a packet without a message: %v", err)
	}
}

const testSignature = "0123456789abcdef"

func testRequest(tag byte, body []byte) []byte {
	b := appendLength([]byte{tag}, signatureLen)
	b = append(b, testSignature...)
	return append(appendLength(b, len(body)), body...)
}

func TestRequest(t *testing.T) {
	for _, tag := range []byte{tag64, tag66} {
		body := bytes.Repeat([]byte{7}, 256)
		r, err := parseRequest(testRequest(tag, body))
		if err != nil {
			t.Fatal(err)
		}
		if r.tag != tag || r.signature != testSignature || !bytes.Equal(r.body, body) {
			t.Errorf("tag %x became %+v", tag, r)
		}
		if got := r.answer(make([]byte, 256)); !bytes.HasPrefix(got, []byte{tag + 1, 0, 192, 64}) || len(got) != 260 {
			t.Errorf("answer to tag %x: %x", tag, got)
		}
		if got := r.answer(nil); !bytes.Equal(got, []byte{tag + 1, 1, 0, 0}) {
			t.Errorf("refusal of tag %x: %x", tag, got)
		}
	}
	good := testRequest(tag64, make([]byte, 35))
	tests := map[string][]byte{
		"empty": nil, "other tag": testRequest(tag65, make([]byte, 35)), "no body": testRequest(tag64, nil),
		"cut": good[:len(good)-1], "longer": append(good, 0), "body too long": testRequest(tag64, make([]byte, maxWrapped+1)),
		"signature too short": append([]byte{tag64, 15}, good[3:]...),
	}
	for name, b := range tests {
		if r, err := parseRequest(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCheckFileKey(t *testing.T) {
	key := func(code byte, size int) []byte {
		b := append([]byte{code}, bytes.Repeat([]byte{0xff}, size)...)
		sum := 0xff * size
		return append(b, byte(sum>>8), byte(sum))
	}
	for _, good := range [][]byte{key(7, 16), key(8, 24), key(9, 32), key(3, 5)} {
		if err := CheckFileKey(good); err != nil {
			t.Errorf("%x: %v", good, err)
		}
	}
	wrong := key(9, 32)
	wrong[5]--
	for _, bad := range [][]byte{nil, {9, 0, 0}, key(9, 16), wrong} {
		if CheckFileKey(bad) == nil {
			t.Errorf("%x is taken for a file key", bad)
		}
	}
	if got := FileKeySize(32); got != 35 {
		t.Errorf("the key of AES-256 has %d bytes when it is wrapped", got)
	}
}
