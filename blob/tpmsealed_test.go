package blob

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// sealedFixtures are files of tpm_sealdata.
var sealedFixtures = []struct {
	path string
	pcrs string
}{
	{tutorial + "/sealed", "[]"},
	{tutorial + "/sealed-pcr8", "[8 15]"}, // TPM_PCR_INFO
	{tutorial + "/sealed-pcr16", "[16]"},  // TPM_PCR_INFO_LONG
	{wellknown + "/sealed", "[]"},
	{tutorial + "/sealed-auth", "[]"}, // of this project, with a secret
}

func mustSealed(t testing.TB, path string) *TPMSealed {
	t.Helper()
	s, err := parseAs[*TPMSealed](readFile(t, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return s
}

func TestSealedFixtures(t *testing.T) {
	for _, f := range sealedFixtures {
		s := mustSealed(t, f.path)
		pcrs, err := s.PCRs()
		if err != nil || fmt.Sprint(pcrs) != f.pcrs {
			t.Errorf("%s: PCRs %v, %v", f.path, pcrs, err)
		}
		if !s.Sealed() || s.NeedsSecret() != strings.HasSuffix(f.path, "-auth") || s.PublicKey() != nil || s.CanSign() || s.CanDecrypt() || s.CanAgree() || s.Migratable() ||
			!errors.Is(s.Unsupported(), ErrUnsupported) || s.Key.Usage != KeyStorage || len(s.Ciphertext) != 16 {
			t.Errorf("%s: %+v", f.path, s)
		}
		if got, err := s.Marshal(s.Container()); err != nil || !bytes.Equal(got, readFile(t, f.path)) {
			t.Errorf("%s: written back differently (error %v):\n%s", f.path, err, got)
		}
		if _, err := s.Marshal(PEM); err == nil {
			t.Errorf("%s: written as a key", f.path)
		}
	}
	if _, err := mustParse(t, tutorial+"/maclef").Marshal(TSSSealed); err == nil {
		t.Error("a key was written as sealed data")
	}
}

// TestSealedText checks what may stand in the text of a sealed file, and around it.
func TestSealedText(t *testing.T) {
	text := string(readFile(t, tutorial+"/sealed"))
	replace := func(from, to string) string { return strings.Replace(text, from, to, 1) }
	lines := strings.SplitAfter(text, "\n")
	data := lines[len(lines)-3] // the only one
	for _, c := range []struct {
		name, text string
		want       string // "" for a sealed file, else part of the error
		is         error
	}{
		{"as written", text, "", nil},
		{"CRLF", strings.ReplaceAll(text, "\n", "\r\n"), "", nil},
		{"text around", "made 2012\n" + text + "end\n", "", nil},
		{"byte order mark", "\ufeff" + text, "", nil},
		{"no final newline", strings.TrimSuffix(text, "\n"), "", nil},
		{"two", text + text, "two PEM blocks TSS", ErrDamaged},
		{"first line alone", tssBegin, "the line -----TSS KEY----- is missing", ErrTruncated},
		{"last line missing", replace(tssEnd, ""), "the line -----END TSS----- is missing", ErrTruncated},
		{"a part missing", replace(tssAES+"\n", ""), "the line -----ENC KEY----- is missing", ErrTruncated},
		{"parts exchanged", strings.NewReplacer(tssAES, tssData, tssData, tssAES).Replace(text), "the line -----ENC DAT----- is missing", ErrTruncated},
		{"another cipher", replace("AES-256-CBC", "DES-CBC"), `unsupported form of the AES key: the line after -----ENC KEY----- is "Symmetric Key: DES-CBC"`, ErrUnsupported},
		{"bad base64", replace("AQEAAAARAAAA", "AQEAAAA*AAAA"), "TSS KEY has bad base64 after", ErrDamaged},
		{"a line of the key missing", replace(lines[3], ""), "is larger than any", ErrDamaged},
		{"no AES key", replace("AES-256-CBC\nAQEAAAAA", "AES-256-CBC\nAgIAAAAA"), "neither as TPM_STORED_DATA nor", ErrDamaged},
		{"no data", replace(data, ""), "there is no encrypted data", ErrTruncated},
		{"half a block", replace(data, data[:20]+"\n"), "the encrypted data has 15 bytes", ErrTruncated},
		{"a signing key", replace("AQEAAAARAAAA", "AQEAAAAQAAAA"), "its key is a TPM_KEY_SIGNING key", ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parseAs[*TPMSealed]([]byte(c.text))
			if c.want == "" && c.is == nil {
				if err != nil || !bytes.Equal(s.AESKey, mustSealed(t, tutorial+"/sealed").AESKey) {
					t.Errorf("error %v, or other data", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.is) {
				t.Errorf("error %v, want one with %q that is %v", err, c.want, c.is)
			}
		})
	}
	for n := len(tssBegin) + 1; n < len(text)-2; n++ {
		if _, err := Parse([]byte(text[:n])); !errors.Is(err, ErrTruncated) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestManySealedLines has a file as large as key files may be. Its time must not grow with the square
// of its size.
func TestManySealedLines(t *testing.T) {
	text := bytes.Repeat([]byte(tssBegin), 16<<20/len(tssBegin))
	begin := time.Now()
	if _, err := Parse(text); err == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestEncryptSealed checks that every changed ciphertext is noticed, and that without the digest, as
// tpm_sealdata seals, the padding is looked at.
func TestEncryptSealed(t *testing.T) {
	s := mustSealed(t, tutorial+"/sealed")
	for _, n := range []int{0, 1, 15, 16, 17, 100} {
		data := make([]byte, n)
		seal, ciphertext, err := EncryptSealed(rand.Reader, data)
		if err != nil {
			t.Fatal(err)
		}
		s.Ciphertext = ciphertext
		for _, size := range []int{aesKeySize, len(seal)} {
			if got, ok := s.Decrypt(seal[:size]); !ok || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %x, %v", n, got, ok)
			}
		}
		for i := range ciphertext {
			s.Ciphertext = edit(ciphertext, i, ciphertext[i]^1)
			if got, ok := s.Decrypt(seal); ok {
				t.Errorf("%d bytes, changed at %d: %x", n, i, got)
			}
		}
		s.Ciphertext = ciphertext
		for _, size := range []int{0, 16, aesKeySize - 1, len(seal) - 1} {
			if _, ok := s.Decrypt(seal[:size]); ok {
				t.Errorf("decrypted with %d bytes", size)
			}
		}
		if _, ok := s.Decrypt(make([]byte, aesKeySize)); ok {
			t.Log("a wrong key gave a right padding, as one in 256 does")
		}
	}
}

// FuzzTPMSealed feeds Parse what may be sealed data. What is some stays the same when it is written.
func FuzzTPMSealed(f *testing.F) {
	for _, fixture := range sealedFixtures {
		f.Add(readFile(f, fixture.path))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseAs[*TPMSealed](data)
		if err != nil || s == nil {
			return
		}
		if _, err := s.PCRs(); err != nil {
			t.Error(err)
		}
		written, err := s.Marshal(TSSSealed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseAs[*TPMSealed](written)
		if err != nil || !bytes.Equal(again.Key.Bytes(), s.Key.Bytes()) || !bytes.Equal(again.AESKey, s.AESKey) || !bytes.Equal(again.Ciphertext, s.Ciphertext) {
			t.Fatalf("other data: %v", err)
		}
		s.Decrypt(make([]byte, aesKeySize))
	})
}
