package pemkey_test

import (
	"encoding/pem"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"maclef/internal/chip"
	"maclef/internal/pemkey"
	"maclef/internal/tpmtest"
)

// opensslPKCS8 has openssl encrypt the recorded software key.
func opensslPKCS8(t *testing.T, password string, args ...string) []byte {
	t.Helper()
	in := tpmtest.FixturePath(t, "tpm12-tutorial/wrapped1024.pem")
	cmd := exec.Command("openssl", append([]string{"pkcs8", "-topk8", "-in", in, "-passout", "pass:" + password}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return out
}

func TestEncryptedPKCS8(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for name, args := range map[string][]string{
		"default":  nil,
		"AES-128":  {"-v2", "aes-128-cbc"},
		"AES-192":  {"-v2", "aes-192-cbc"},
		"3DES":     {"-v2", "des3"},
		"SHA-1":    {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"},
		"SHA-384":  {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA384"},
		"SHA-512":  {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"},
		"scrypt":   {"-scrypt"},
		"scrypt N": {"-scrypt", "-scrypt_N", "32768", "-scrypt_r", "4", "-scrypt_p", "2"},
		"DER":      {"-outform", "DER"},
	} {
		for _, password := range []string{"mot de passe", ""} {
			data := opensslPKCS8(t, password, args...)
			give := func(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }
			if _, err := pemkey.Parse(data, give(password)); err != nil {
				t.Errorf("%s, password %q: %v", name, password, err)
			}
			if _, err := pemkey.Parse(data, give("faux")); !errors.Is(err, pemkey.ErrWrongPassword) {
				t.Errorf("%s: wrong password: %v", name, err)
			}
			if _, err := pemkey.Parse(data, nil); !errors.Is(err, chip.ErrSecretNeeded) {
				t.Errorf("%s: no password: %v", name, err)
			}
		}
	}
	_, err := pemkey.Parse(opensslPKCS8(t, "x", "-v2", "camellia-256-cbc"), func() ([]byte, error) { return []byte("x"), nil })
	tpmtest.WantError(t, err, chip.ErrNotSupported, "openssl pkcs8")
}

// The file chooses what trying a password costs; what costs too much is not
// tried.
func TestExpensivePKCS8(t *testing.T) {
	for name, c := range map[string]struct{ args, cheap, dear string }{
		"scrypt": {"-scrypt", "\x02\x02\x40\x00\x02\x01\x08\x02\x01\x01", "\x02\x02\x40\x00\x02\x01\x7f\x02\x01\x7f"},
		"PBKDF2": {"-iter 100000", "\x02\x03\x01\x86\xa0", "\x02\x03\x7f\xff\xff"},
	} {
		data := string(opensslPKCS8(t, "x", append(strings.Fields(c.args), "-outform", "DER")...))
		if strings.Count(data, c.cheap) != 1 {
			t.Fatalf("%s: its parameters are not where they were", name)
		}
		_, err := pemkey.Parse([]byte(strings.Replace(data, c.cheap, c.dear, 1)), func() ([]byte, error) {
			t.Errorf("%s: asked for the password", name)
			return nil, nil
		})
		tpmtest.WantError(t, err, chip.ErrNotSupported)
	}
}

// opensslKey has openssl make a key, in DER.
func opensslKey(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", append(args, "-outform", "DER")...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return out
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n"))
	f.Add(secp256k1)
	f.Add(secp256k1PKCS8)
	f.Add(opensslKey(f, "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:1024"))
	f.Add(opensslKey(f, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-pkeyopt", "rsa_keygen_pubexp:4294967297"))
	f.Add(opensslKey(f, "ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout"))
	f.Fuzz(func(t *testing.T, data []byte) {
		password := func() ([]byte, error) { return []byte("x"), errors.New("not asked in a fuzz test: it costs time") }
		pemkey.Parse(data, password)
		pemkey.Parse(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: data}), password)
	})
}
