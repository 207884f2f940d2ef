package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// utf16Of returns an ASCII text in UTF-16.
func utf16Of(text string, order binary.AppendByteOrder) string {
	b := order.AppendUint16(nil, 0xfeff)
	for _, c := range []byte(text) {
		b = order.AppendUint16(b, uint16(c))
	}
	return string(b)
}

// TestPEMText checks what may stand around a PEM block and what may not.
func TestPEMText(t *testing.T) {
	key := string(readFile(t, tutorial+"/maclef"))
	crt := string(readFile(t, tutorial+"/maclef.crt"))
	lines := strings.Split(key, "\n")
	crlf := strings.ReplaceAll(key, "\n", "\r\n")
	cutEnd := strings.TrimSuffix(key, "-----\n")
	for _, c := range []struct {
		name, text string
		want       string // "" when it is a key, else part of the error
		is         error
	}{
		{"as written", key, "", nil},
		{"text before", "my key, made 2012\n0x00\n" + key, "", nil},
		{"latin-1 before", "cl\xe9\n" + key, "", nil},
		{"0 before", "0\n" + key, "", nil},
		{"byte order mark", "\ufeff" + key, "", nil},
		{"UTF-16", utf16Of(key, binary.LittleEndian), "", nil}, // Windows PowerShell's >
		{"UTF-16, big-endian", utf16Of("my key\n"+crlf, binary.BigEndian), "", nil},
		{"UTF-16, cut", utf16Of(key, binary.LittleEndian)[:1001], "the line -----END TSS KEY BLOB----- is missing", ErrTruncated},
		{"headers", strings.Replace(key, "BLOB-----\n", "BLOB-----\nComment: my key, made\n in 2012\nX-Owner: me\n\n", 1), "", nil},
		{"headers with CRLF", strings.Replace(crlf, "BLOB-----\r\n", "BLOB-----\r\nComment: my key\r\n\r\n", 1), "", nil},
		{"headers alone", lines[0] + "\nComment: my key\n\n-----END TSS KEY BLOB-----\n", "OCTET STRING ends in its header, after 0 bytes", ErrTruncated},
		{"CRLF", crlf, "", nil},
		{"CRLF with text", "text\r\n" + crlf + "\r\n\r\n", "", nil},
		{"no final newline", strings.TrimSuffix(key, "\n"), "", nil},
		{"spaces at line ends", strings.ReplaceAll(key, "\n", "  \n"), "", nil},
		{"empty line inside", strings.Replace(key, "\n", "\n\n", 2), "", nil},
		{"lines joined", lines[0] + "\n" + strings.Join(lines[1:len(lines)-2], "") + "\n" + lines[len(lines)-2], "", nil},
		{"text after", key + "end of key\n", "", nil},
		{"certificate after", key + crt, "", nil},
		{"certificate before", crt + key, "", nil},
		{"software key beside", string(readFile(t, tutorial+"/wrapped.pem")) + key, "", nil},
		{"END line missing", strings.Split(key, "-----END")[0], "the line -----END TSS KEY BLOB----- is missing", ErrTruncated},
		{"END line cut", cutEnd, "the line -----END TSS KEY BLOB----- is missing", ErrTruncated},
		{"END line of another", strings.Replace(key, "END TSS", "END TXX", 1), "the line -----END TSS KEY BLOB----- is missing", ErrDamaged},
		{"BEGIN alone", lines[0], "the line -----END TSS KEY BLOB----- is missing", ErrTruncated},
		{"a line lost", strings.Join(slices.Delete(slices.Clone(lines), 5, 6), "\n"), "OCTET STRING needs 559 bytes, 511 left at offset 4", ErrTruncated},
		{"bad character", strings.Replace(key, "AAAA", "AA*A", 1), "bad base64 after", ErrDamaged},
		{"header line", strings.Replace(key, "BLOB-----\n", "BLOB-----\nProc-Type: 4,ENCRYPTED\n\n", 1), "is encrypted (Proc-Type)", ErrDamaged},
		{"two keys", key + key, "two PEM blocks", ErrDamaged},
		{"binary after", key + "\x00\x01", "binary data", ErrDamaged},
		{"binary before", "\x00\n" + key, "binary data", ErrDamaged},
		{"BEGIN not at the start of a line", "x" + key, "not a TPM key file", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := parseAs[*TPMKey]([]byte(c.text))
			if c.want == "" {
				if err != nil || k.Container() != PEM || !bytes.Equal(k.Bytes(), readFile(t, tutorial+"/maclef.raw")) {
					t.Errorf("error %v, or another key", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want one with %q that is %v", err, c.want, c.is)
			}
		})
	}
}

func TestDamagedContainer(t *testing.T) {
	tss := readFile(t, tutorial+"/maclef.tssblob.der")
	k := mustParse(t, tutorial+"/maclef")
	octet := k.marshalOctetString()
	text := string(readFile(t, wellknown+"/stpm.key"))
	lines := strings.SplitAfter(text, "\n") // two comments, exp, mod, blob
	for _, c := range []struct {
		name string
		data []byte
		want string
		is   error
	}{
		{"TssBlob version", edit(tss, 6, 2), "not a TPM key file", nil},
		{"TssBlob of a public key", edit(tss, 9, 2), "a TssBlob of a type that is no key", nil},
		{"TssBlob length", edit(tss, 15, 0x2e), "says that its key has 558 bytes, and it has 559", ErrDamaged},
		{"TssBlob with a byte more", append(bytes.Clone(tss), 0), "1 bytes too many after TssBlob", ErrDamaged},
		{"TssBlob cut", tss[:300], "truncated: TssBlob needs 575 bytes, 296 left at offset 4", ErrTruncated},
		{"octet string with a byte more", append(bytes.Clone(octet), 0), "1 bytes too many after OCTET STRING", ErrDamaged},
		{"octet string cut", octet[:100], "truncated: OCTET STRING needs 559 bytes, 96 left at offset 4", ErrTruncated},
		{"octet string cut in its header", octet[:3], "truncated: OCTET STRING ends in its header", ErrTruncated},
		{"octet string with a long length", slices.Concat([]byte{4, 0x83, 0}, octet[2:]), "no valid DER header", ErrDamaged},
		{"octet string around something else", []byte{4, 5, 'h', 'e', 'l', 'l', 'o'}, "not a TPM key file", nil},
		{"text without exp", []byte(strings.Replace(text, "exp 010001\n", "", 1)), `no line "exp"`, ErrTruncated},
		{"text cut before blob", []byte(strings.Join(lines[:4], "")), `no line "blob" up to the end, line 4`, ErrTruncated},
		{"text cut in blob", []byte(text[:len(text)-101]), "truncated: encData needs 256 bytes, 206 left at offset 303", ErrTruncated},
		{"text cut in a byte", []byte(text[:len(text)-102]), `line 5, "blob", ends in the middle of a byte`, ErrTruncated},
		{"text with another exp", []byte(strings.Replace(text, "exp 010001", "exp 03", 1)), `"exp" is not the public exponent`, ErrDamaged},
		{"text with another mod", []byte(strings.Replace(text, "mod d", "mod e", 1)), `"mod" is not the modulus`, ErrDamaged},
		{"text with exp twice", []byte(text + "exp 010001\n"), `line 6 is a second line "exp"`, ErrDamaged},
		{"text with a strange line", []byte(text + "secret hunter2\n"), "line 6 of this simple-tpm-pk11 file is neither", ErrDamaged},
		{"text with its first word misspelled", []byte(strings.Replace(text, "exp ", "expo ", 1)), "line 3 of this simple-tpm-pk11 file is neither", ErrDamaged},
		{"text with two words misspelled", []byte(strings.NewReplacer("exp ", "Exp ", "mod ", "mod: ").Replace(text)), "line 3 of this simple-tpm-pk11 file is neither", ErrDamaged},
		{"text with bad hex", []byte(strings.Replace(text, "mod dc", "mod dx", 1)), `line 4, "mod", is not hexadecimal after 0 bytes`, ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want one with %q that is %v", err, c.want, c.is)
			}
		})
	}
}

// TestEveryPrefix cuts each fixture after every byte: from a header on, the
// error says that the file is truncated.
func TestEveryPrefix(t *testing.T) {
	for _, f := range fixtures {
		data := readFile(t, f.path)
		from := map[Container]int{PEM: len("-----BEGIN TSS KEY BLOB-----"), Raw: 2, TssBlob: 4, SimpleTPMPK11: strings.Index(string(data), "exp ") + 4}[f.container]
		for n := range len(data) - 1 {
			k, err := parseAs[*TPMKey](data[:n])
			if complete := n == len(bytes.TrimSpace(data)) && f.container != Raw && f.container != TssBlob; complete {
				continue
			}
			if err == nil {
				t.Fatalf("%s: %d of %d bytes are a key of %d bits", f.path, n, len(data), k.KeyLength)
			}
			if n >= from && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s: after %d bytes: %v", f.path, n, err)
			}
		}
	}
}

func TestTextVariants(t *testing.T) {
	text := string(readFile(t, wellknown+"/stpm.key"))
	want := mustParse(t, wellknown+"/stpm.key").Bytes()
	for name, variant := range map[string]string{
		"CRLF":             strings.ReplaceAll(text, "\n", "\r\n"),
		"no final newline": strings.TrimSuffix(text, "\n"),
		"no comments":      text[strings.Index(text, "exp"):],
		"other comments":   "# mine\n\n#\n" + text + "# end",
		"upper case":       strings.Replace(strings.ToUpper(text), "EXP", "exp", 1),
		"leading zeros":    strings.Replace(text, "exp 01", "exp 0001", 1),
		"other order":      reverseLines(text),
	} {
		if name == "upper case" {
			variant = strings.NewReplacer("MOD ", "mod ", "BLOB ", "blob ").Replace(variant)
		}
		k, err := parseAs[*TPMKey]([]byte(variant))
		if err != nil || k.Container() != SimpleTPMPK11 || !bytes.Equal(k.Bytes(), want) {
			t.Errorf("%s: error %v, or another key", name, err)
		}
	}
}

func reverseLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

// TestKey12 takes a TPM_KEY12 through every container.
func TestKey12(t *testing.T) {
	k := mustParse(t, tutorial+"/maclef")
	k.Key12 = true
	for _, c := range []Container{PEM, OctetString, TssBlob, Raw, SimpleTPMPK11} {
		data, err := k.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseAs[*TPMKey](data)
		if err != nil || got.Container() != c || !got.Key12 || !bytes.Equal(got.Bytes(), k.Bytes()) {
			t.Errorf("%v: error %v, or another key", c, err)
		}
	}
	// Programs that know only the older type of TssBlob are read, and kept.
	data, _ := k.Marshal(TssBlob)
	old := edit(data, 9, tssBlobKey)
	if got, err := parseAs[*TPMKey](old); err != nil {
		t.Error(err)
	} else if again, _ := got.Marshal(TssBlob); !bytes.Equal(again, old) {
		t.Error("the type of a TssBlob is not kept")
	}
}

func TestMarshalRefuses(t *testing.T) {
	k := mustParse(t, tutorial+"/maclef")
	if _, err := k.Marshal(Container(99)); err == nil || !strings.Contains(err.Error(), "unknown container 99") {
		t.Errorf("container 99: %v", err)
	}
	for c := TSS2PEM; c <= TSS2Pair; c++ {
		if _, err := k.Marshal(c); err == nil || !strings.Contains(err.Error(), "TPM 1.2") {
			t.Errorf("%v: %v", c, err)
		}
	}
	k.EncData = k.EncData[:255]
	if _, err := k.Marshal(PEM); !errors.Is(err, ErrDamaged) {
		t.Errorf("short encData: %v", err)
	}
	tmpl, err := NewTemplate(Template{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Marshal(Raw); err == nil || !strings.Contains(err.Error(), "template") {
		t.Errorf("template: %v", err)
	}
}
