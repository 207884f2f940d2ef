package blob

import (
	"bytes"
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
	p := fixtureParts(f)
	f.Add(tss2Of(oidOld, 0, isTrue, explicitly(1, parentOwner), explicitly(2, p.pub), explicitly(3, sequence()), p.priv))
	for _, c := range samplePolicies(f) {
		command := commandDER([]byte{byte(c.command.Code >> 8), byte(c.command.Code)}, c.command.Policy)
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
	public, _ := policyKey(f)
	f.Add(public, []byte{0, 1, 1})
	f.Fuzz(func(t *testing.T, pub, priv []byte) {
		k, err := ParsePair(pub, priv)
		if err != nil {
			if k != nil || err.Error() == "" {
				t.Errorf("key %v, error %q", k, err)
			}
			return
		}
		gotPub, gotPriv, err := k.MarshalPair()
		if err != nil || !bytes.Equal(gotPub, pub) || !bytes.Equal(gotPriv, priv) {
			t.Errorf("written back differently (error %v)", err)
		}
		file, err := k.Marshal(TSS2DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := exercise(file); err != nil {
			t.Error(err)
		}
		if name, err := k.TSS2.Name(); k.PublicKey() != nil && (err != nil || len(name) < 22) {
			t.Errorf("name %x, error %v", name, err)
		}
	})
}

// FuzzPolicy feeds the readers of policy commands any parameters: what has a form on
// the wire means the same in it.
func FuzzPolicy(f *testing.F) {
	for _, c := range samplePolicies(f) {
		f.Add(uint32(c.command.Code), uint16(tpm2.TPMAlgSHA256), c.command.Policy)
	}
	f.Add(uint32(tpm2.TPMCCPolicyPCR), uint16(tpm2.TPMAlgSHA1), NewPolicyPCR(tpm2.TPMAlgSHA1, []uint{1}, make([]byte, 20)).Policy)
	f.Fuzz(func(t *testing.T, code uint32, alg uint16, body []byte) {
		c := PolicyCommand{Code: tpm2.TPMCC(code), Policy: body}
		if c.Words(tpm2.TPMAlgID(alg)) == "" {
			t.Error("no words")
		}
		digest, err := PolicyDigest(tpm2.TPMAlgID(alg), []PolicyCommand{c})
		if err != nil && err.Error() == "" {
			t.Error("empty error")
		}
		wire, wireErr := c.Wire(tpm2.TPMAlgID(alg))
		if wireErr != nil || err != nil {
			return
		}
		again, err := PolicyDigest(tpm2.TPMAlgID(alg), []PolicyCommand{{Code: c.Code, Policy: wire}})
		if err != nil || !bytes.Equal(again, digest) {
			t.Errorf("digest %x, and of what goes over the wire %x (error %v)", digest, again, err)
		}
	})
}
