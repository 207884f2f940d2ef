package ecryptfs

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzPacket(f *testing.F) {
	f.Add((&packet{kind: packetRequest, data: testRequest(tag64, make([]byte, 256))}).bytes())
	f.Add((&packet{kind: packetRequest, data: testRequest(tag66, make([]byte, 35))}).bytes())
	f.Add([]byte{packetRequest, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		if again, err := parsePacket(p.bytes()); err != nil || !bytes.Equal(again.data, p.data) {
			t.Errorf("%x became %x: %v", b, p.bytes(), err)
		}
		r, err := parseRequest(p.data)
		if err == nil && (len(r.signature) != signatureLen || len(r.body) == 0) {
			t.Errorf("%x became %+v", b, r)
		}
	})
}

func FuzzServer(f *testing.F) {
	f.Add((&packet{kind: packetRequest, data: testRequest(tag64, make([]byte, 256))}).bytes())
	f.Add((&packet{kind: packetRequest, data: testRequest(tag66, fileKey(1))}).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		answered := 0
		newBench().receive(b, func(raw []byte) bool {
			answered++
			if len(raw) > maxPacket {
				t.Errorf("an answer of %d bytes", len(raw))
			}
			return true
		})
		if answered > 1 {
			t.Errorf("%d answers to %x", answered, b)
		}
	})
}

func FuzzHeader(f *testing.F) {
	good := lower(f)
	f.Add(good)
	f.Add(append(good[:26:26], 0x8c, 1, 0, 0xed, 22))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		for _, k := range h.Keys {
			if !isSignature(k.Signature) || k.Passphrase != (k.Wrapped == nil) {
				t.Errorf("%x: %+v", b, k)
			}
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add(lowerName)
	f.Add(NamePrefix)
	f.Fuzz(func(t *testing.T, name string) {
		signature, err := ParseName(name)
		if err != nil {
			return
		}
		if !isSignature(signature) || !strings.HasPrefix(name, NamePrefix) {
			t.Errorf("%q: %q", name, signature)
		}
	})
}

func FuzzMounts(f *testing.F) {
	f.Add(table)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseMounts(text)
		if err != nil {
			return
		}
		for i := range all {
			all[i].Option("ecryptfs_sig")
			if MountAt(all, all[i].Point) == nil {
				t.Errorf("%q: %+v is not found", text, all[i])
			}
		}
	})
}
