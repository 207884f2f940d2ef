package blob

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
)

// FuzzParse feeds Parse and ParsePubKey anything. What is a key stays the same
// key in every container.
func FuzzParse(f *testing.F) {
	for _, fixture := range fixtures {
		f.Add(readFile(f, fixture.path))
	}
	for _, path := range []string{tutorial + "/wrapped.pem", tutorial + "/maclef.crt", tutorial + "/system.data"} {
		f.Add(readFile(f, path))
	}
	k := mustParse(f, tutorial+"/rsa512")
	f.Add(k.marshalOctetString())
	k.Exponent = []byte{3}
	k.PCRInfo = append(pcrSelection(1, 0, 0), make([]byte, 40)...)
	f.Add(k.Bytes())
	f.Add(k.publicBytes()[atAlgorithm:])
	k.Key12 = true
	k.PCRInfo = append([]byte{0, 6, 1, 1, 0, 3, 1, 0, 0, 0, 3, 1, 0, 0}, make([]byte, 40)...)
	f.Add(k.Bytes())
	f.Add([]byte(strings.Repeat("-----BEGIN TSS KEY BLOB-----\n", 3)))

	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ParsePubKey(data); err != nil && err.Error() == "" {
			t.Error("empty error")
		}
		key, err := Parse(data)
		if err != nil {
			if key != nil || err.Error() == "" {
				t.Errorf("key %v, error %q", key, err)
			}
			return
		}
		k, ok := key.(*TPMKey)
		if !ok {
			return // FuzzTSS2 and FuzzTPMSealed look at these
		}
		if k.PublicKey() == nil {
			t.Error("no public key")
		}
		if _, err := k.PCRs(); err != nil {
			t.Error(err)
		}
		for c := PEM; c <= SimpleTPMPK11; c++ {
			written, err := k.Marshal(c)
			if err != nil {
				t.Fatalf("write %v: %v", c, err)
			}
			again, err := parseAs[*TPMKey](written)
			if err != nil {
				t.Fatalf("read %v: %v", c, err)
			}
			if again.Container() != c || !bytes.Equal(again.Bytes(), k.Bytes()) {
				t.Fatalf("%v: another key", c)
			}
			if twice, err := again.Marshal(c); err != nil || !bytes.Equal(twice, written) {
				t.Fatalf("%v: not stable (error %v)", c, err)
			}
		}
		if raw := k.Container() == Raw || k.Container() == OctetString; raw {
			if same, err := k.Marshal(k.Container()); err != nil || !bytes.Equal(same, data) {
				t.Fatalf("%v: written back differently (error %v)", k.Container(), err)
			}
		}
	})
}

// allocated returns the bytes that Parse allocates for data: the least of some
// runs, as the runtime allocates too.
func allocated(data []byte) uint64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Parse(data)
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// TestAllocations bounds what Parse allocates: four times the input, and a
// little for errors and the Key.
func TestAllocations(t *testing.T) {
	const size, factor, constant = 1 << 20, 4, 4096
	fill := func(s string) []byte { return []byte(strings.Repeat(s, size/len(s))) }
	random := make([]byte, size)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	huge := bytes.Repeat([]byte{0xff}, 64)
	inputs := map[string][]byte{
		"random":                    random,
		"random TPM_KEY":            append([]byte{1, 1, 0, 0}, random...),
		"huge sizes in a TPM_KEY":   append([]byte{1, 1, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 3}, huge...),
		"huge OCTET STRING":         {4, 0x84, 0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0},
		"huge TssBlob":              {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1, 2, 1, 1},
		"big OCTET STRING":          derElement(4, append([]byte{1, 1, 0, 0}, random...)),
		"nested SEQUENCEs":          fill("\x30\x80"),
		"BEGIN lines":               fill("-----BEGIN TSS KEY BLOB-----\n"),
		"other BEGIN lines":         fill("-----BEGIN A-----\n"),
		"smallest blocks":           fill("-----BEGIN -----\n-----END -----\n"),
		"BEGIN without line ends":   fill("-----BEGIN "),
		"a long label":              []byte("-----BEGIN " + strings.Repeat("A", size) + "-----\n"),
		"lines of dashes":           []byte("-----BEGIN A-----\n" + strings.Repeat("-----\n", size/6)),
		"header lines":              []byte("-----BEGIN TSS KEY BLOB-----\n" + strings.Repeat("a:\n", size/3) + "-----END TSS KEY BLOB-----\n"),
		"a PEM block of zeros":      []byte("-----BEGIN TSS KEY BLOB-----\n" + strings.Repeat("A", size) + "\n-----END TSS KEY BLOB-----\n"),
		"a PKCS #8 block of zeros":  []byte("-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("A", size) + "\n-----END PRIVATE KEY-----\n"),
		"a blob line":               []byte("exp 03\nmod 03\nblob " + strings.Repeat("01", size/2)),
		"a blob line of a TPM_KEY":  []byte("exp 03\nmod 03\nblob 01010000" + strings.Repeat("01", size/2)),
		"comments":                  fill("#\n"),
		"empty lines after a blob":  []byte("blob 00\n" + strings.Repeat("\n", size)),
		"a word":                    []byte("blob" + strings.Repeat("x", size)),
		"white space":               fill(" \n"),
		"all PCRs, as far as it is": append([]byte{0, 0x28, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 3, 0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, huge...),
	}
	inputs["sealed data"] = append(readFile(t, tutorial+"/sealed"), random...)
	inputs["much sealed data"] = bytes.Replace(inputs["sealed data"][:1270], []byte("\n"+tssEnd), fill("\nAAAA"), 1)
	inputs["lines of sealed data"] = fill(tssBegin + "\n")
	inputs["many commands"] = tss2Of(oidTSS2[:5], 3, []byte{0xa1, 0x83, 0x0a, 0x00, 0x04, 0x30, 0x83, 0x0a, 0x00, 0x00}, bytes.Repeat([]byte{0x30, 8, 0xa0, 3, 2, 1, 0, 0xa1, 1, 0}, size/16))
	inputs["huge TPMKey"] = []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 6, 6, 0x67, 0x81, 5, 10, 1, 3}
	for _, f := range fixtures {
		inputs[f.path] = readFile(t, f.path)
	}
	for _, f := range tss2Fixtures {
		inputs[f.name] = readFile(t, tpm20Files+"/"+f.name+".pem")
	}
	for name, data := range inputs {
		if got, limit := allocated(data), uint64(factor*len(data)+constant); got > limit {
			t.Errorf("%s: %d bytes allocated for %d", name, got, len(data))
		} else if testing.Verbose() {
			fmt.Printf("%-60s %8d bytes for %8d\n", name, got, len(data))
		}
	}
}
