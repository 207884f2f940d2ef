package blob

import (
	"bytes"
	"crypto/elliptic"
	"encoding/pem"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// FuzzTSS2 feeds Parse what may be a key file of a TPM 2.0. What is one can be explained
// and written, and stays the same key.
func FuzzTSS2(f *testing.F) {
	for _, fixture := range tss2Fixtures {
		data := readFile(f, tpm20Files+"/"+fixture.name+".pem")
		block, _ := pem.Decode(data)
		f.Add(data)
		f.Add(block.Bytes)
	}
	f.Add(readFile(f, tpm20Files+"/srk.esys"))
	p := fixtureParts(f)
	f.Add(tss2Of(oidOld, 0, isTrue, explicitly(1, parentOwner), explicitly(2, p.pub), explicitly(3, sequence()), p.priv))
	for _, c := range []PolicyCommand{{uint32(tpm2.TPMCCPolicyAuthValue), nil}, {uint32(tpm2.TPMCCPolicyCommandCode), []byte{0, 0, 1, 0x5d}}} {
		command := commandDER([]byte{byte(c.Code >> 8), byte(c.Code)}, c.Policy)
		f.Add(tss2Of(oidTSS2, 3, explicitly(1, sequence(command)), explicitly(3, sequence(sequence(explicitly(1, sequence(command))))), parentOwner, p.pub, p.priv))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := exercise(data); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPair feeds ParsePair two halves.
func FuzzPair(f *testing.F) {
	for _, name := range []string{"tools-rsa", "tools-p256"} {
		f.Add(readFile(f, tpm20Files+"/"+name+".pub"), readFile(f, tpm20Files+"/"+name+".priv"))
	}
	key := softwareECC(f, elliptic.P256())
	f.Add(ecc(signOnly, tpm2.TPMECCNistP256, key.X.FillBytes(make([]byte, 32)), key.Y.FillBytes(make([]byte, 32))), []byte{0, 1, 1})
	f.Fuzz(func(t *testing.T, pub, priv []byte) {
		k, err := ParsePair(pub, priv)
		if err != nil {
			if k != nil || err.Error() == "" {
				t.Errorf("key %v, error %q", k, err)
			}
			return
		}
		if !bytes.Equal(k.Public, pub) || !bytes.Equal(k.Private, priv) {
			t.Error("other halves")
		}
		file, err := k.Marshal(TSS2DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := exercise(file); err != nil {
			t.Error(err)
		}
		if name, err := k.Name(); k.PublicKey() != nil && (err != nil || len(name) < 22) {
			t.Errorf("name %x, error %v", name, err)
		}
	})
}
