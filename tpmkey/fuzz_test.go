package tpmkey_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// FuzzPasswordUTF16: as the standard library encodes it, and nothing else.
func FuzzPasswordUTF16(f *testing.F) {
	for _, seed := range []string{"", "motdepasse", "clé", "🔑", "\ufeff", "\ufffd", "\xff", "a\x00b", "\xed\xa0\x80", "\U0010ffff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, password []byte) {
		before := string(password)
		got, err := tpmkey.PasswordUTF16(password)
		if before != string(password) {
			t.Errorf("%q became %q", before, password)
		}
		if !utf8.Valid(password) {
			if err == nil || !got.IsZero() || len(password) > 3 && strings.Contains(err.Error(), before) {
				t.Errorf("%q: %v", password, err)
			}
			return
		}
		var wide []byte
		for _, unit := range utf16.Encode([]rune(string(password))) {
			wide = binary.LittleEndian.AppendUint16(wide, unit)
		}
		if err != nil || !got.Equal(tpmkey.Password(wide)) {
			t.Errorf("%q: %v", password, err)
		}
	})
}

// A skeptic TPM takes no key, and answers everything else with a success
// that says nothing.
type skeptic struct{}

func (skeptic) Send(cmd []byte) ([]byte, error) {
	switch cmd[9] {
	case ordOIAP:
		return append([]byte{0, 0xc4, 0, 0, 0, 34, 0, 0, 0, 0}, make([]byte, 24)...), nil
	case ordGetCap: // TPM_DA_INFO
		return append([]byte{0, 0xc4, 0, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0x37}, make([]byte, 19)...), nil
	case ordLoadKey2: // TPM_DECRYPT_ERROR
		return tpmtest.ErrorReply(0x21), nil
	}
	return tpmtest.ErrorReply(0), nil
}

func (skeptic) Close() error { return nil }

// FuzzLoadFile: a key file reaches the TPM, or is refused with its name.
func FuzzLoadFile(f *testing.F) {
	for _, name := range []string{"tpm12-tutorial/maclef", "tpm12-tutorial/auth", "tpm12-tutorial/maclef.raw", "tpm12-tutorial/oaep-sha1.tssblob.der",
		"tpm12-tutorial/wrapped", "tpm12-wellknown/stpm-pin.key", "tpm12-tutorial/maclef.crt", "tpm12-tutorial/wrapped1024.pem"} {
		f.Add(tpmtest.Fixture(f, name))
	}
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "maclef")
	tpm, err := tpmkey.OpenTransport(context.Background(), skeptic{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := tpm.LoadFile(t.Context(), path, nil)
		if err == nil || k != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, %v", k, err)
		}
	})
}
