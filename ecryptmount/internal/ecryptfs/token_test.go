package ecryptfs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func TestKeyToken(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	token, err := KeyToken(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	print, err := Fingerprint(&key.PublicKey)
	if err != nil || string(token.Signature) != print[:16] {
		t.Errorf("signature %s of a key with the fingerprint %s, %v", token.Signature, print, err)
	}
	if !isSignature(token.Signature) {
		t.Errorf("signature %q", token.Signature)
	}
	b := token.payload
	if len(b) != 740 || !bytes.Equal(b[:8], []byte{4, 0, 1, 0, 0, 0, 0, 0}) || binary.LittleEndian.Uint32(b[628:]) != 256 {
		t.Errorf("token %x", b)
	}
	if string(b[636:653]) != string(token.Signature)+"\x00" {
		t.Errorf("signature in the token: %q", b[636:653])
	}
	if !bytes.Equal(b[8:628], make([]byte, 620)) {
		t.Error("there is something where the session key would be")
	}
}

// The vector was computed with Python's hashlib.
func TestNameToken(t *testing.T) {
	token, err := NameToken([]byte("bonjour"))
	if err != nil {
		t.Fatal(err)
	}
	const wantKey = "2d9cf00f5c7ab8a30bb4d17a4eec0d275553ca4d68f3a993941f1bf8a6627249" +
		"3e89d9092e8e6a3df4b038d23c84f0fc0b9e8975afb948889cd1073d893c93c1"
	b := token.payload
	if token.Signature != "9d8d0c25bb225cf8" || hex.EncodeToString(b[648:712]) != wantKey {
		t.Errorf("signature %s, key %x", token.Signature, b[648:712])
	}
	if len(b) != 740 || !bytes.Equal(b[:8], []byte{4, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("token %x", b)
	}
	for i, want := range []uint32{0, 10, 65536, 64, 2} {
		if got := binary.LittleEndian.Uint32(b[628+4*i:]); got != want {
			t.Errorf("field %d is %d, want %d", i, got, want)
		}
	}
	if string(b[712:729]) != "9d8d0c25bb225cf8\x00" || hex.EncodeToString(b[729:737]) != "9988776655443322" {
		t.Errorf("signature %q, salt %x", b[712:729], b[729:737])
	}
	token.Clear()
	if !bytes.Equal(b, make([]byte, 740)) {
		t.Error("a cleared token is not empty")
	}
	for _, size := range []int{0, 65} {
		if _, err := NameToken(make([]byte, size)); err == nil {
			t.Errorf("a passphrase of %d bytes is taken", size)
		}
	}
}

// isSignature reports whether text has the form of a Signature.
func isSignature(text Signature) bool {
	raw, err := hex.DecodeString(string(text))
	return err == nil && len(raw) == 8 && strings.ToLower(string(text)) == string(text)
}
