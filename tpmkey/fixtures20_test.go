package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// fixtures20 are the recorded keys of TPM 2.0, and what they can do.
var fixtures20 = []struct {
	name    string
	decrypt bool // an RSA key that may
	agree   bool // an ECC key that may
}{
	{name: "e2-rsa", decrypt: true},
	{name: "e2-p256", agree: true},
	{name: "e2-p384", agree: true},
	{name: "e2-rsa-auth", decrypt: true},
	{name: "e2-rsa-auth-da", decrypt: true},
	{name: "e2-p256-auth", agree: true},
	{name: "e2-rsa-81000001", decrypt: true},
	{name: "e2-p256-81000001", agree: true},
	{name: "e2-wrap-rsa", decrypt: true},
	{name: "e2-wrap-ec", agree: true},
	{name: "e2-import-rsa", decrypt: true},
	{name: "e2-import-ec", agree: true},
	{name: "e2-rsa-pcr16", decrypt: true},
	{name: "e2-p256-pcr", agree: true},
	{name: "pv-rsa", decrypt: true},
	{name: "pv-p256", agree: true},
	{name: "pv-p384", agree: true},
	{name: "pv-rsa-auth", decrypt: true},
	{name: "pv-p256-81000001", agree: true},
}

func fixture20(t testing.TB, name string) *blob.TSS2 {
	t.Helper()
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm2/"+name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return file.(*blob.TSS2)
}

// Every recorded key loads, signs, and decrypts or agrees.
func TestFixtures20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, f := range fixtures20 {
		t.Run(f.name, func(t *testing.T) {
			k := loadWith(t, tpm, f.name, tpmkey.Secret{}, motdepasseOf(t, f.name))
			defer func() {
				if err := k.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := signs(k); err != nil {
				t.Error(err)
			}
			if err := signs(k); err != nil {
				t.Error("again:", err)
			}
			if f.decrypt {
				decrypts20(t, k)
			}
			if f.agree {
				agrees20(t, k)
			}
		})
	}
}

func decrypts20(t *testing.T, k *tpmkey.Key) {
	t.Helper()
	message := []byte("bonjour")
	public := k.Public().(*rsa.PublicKey)
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, message)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Decrypt(nil, ciphertext, nil); err != nil || !bytes.Equal(plain, message) {
		t.Errorf("PKCS#1 v1.5: %q, %v", plain, err)
	}
	if ciphertext, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public, message, []byte("label")); err != nil {
		t.Fatal(err)
	}
	plain, err := k.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("label")})
	if err != nil || !bytes.Equal(plain, message) {
		t.Errorf("OAEP: %q, %v", plain, err)
	}
}

func agrees20(t *testing.T, k *tpmkey.Key) {
	t.Helper()
	ours, err := k.Public().(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ours.Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := theirs.ECDH(ours)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.ECDH(theirs.PublicKey()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ECDH: %x, %v; want %x", got, err, want)
	}
	if other, err := otherCurve(ours.Curve()).GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	} else if _, err := k.ECDH(other.PublicKey()); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("ECDH on another curve: %v", err)
	}
}

func otherCurve(c ecdh.Curve) ecdh.Curve {
	if c == ecdh.P521() {
		return ecdh.P256()
	}
	return ecdh.P521()
}

// Signatures that other programs made with these keys verify with the files' public keys.
func TestRecordedSignatures20(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256(tpmtest.Fixture(t, "tpm2/fox.txt"))
	for _, name := range []string{"pv-rsa", "pv-p256", "pv-p384", "pv-p256-81000001"} {
		block, _ := pem.Decode(tpmtest.Fixture(t, "tpm2/"+name+".pub.pem"))
		recorded, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		sig := tpmtest.Fixture(t, "tpm2/"+name+".sha256.sig")
		switch public := fixture20(t, name).PublicKey().(type) {
		case *rsa.PublicKey:
			if !public.Equal(recorded) || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
				t.Errorf("%s: another key", name)
			}
		case *ecdsa.PublicKey:
			if !public.Equal(recorded) || !ecdsa.VerifyASN1(public, digest[:], sig) {
				t.Errorf("%s: another key", name)
			}
		default:
			t.Errorf("%s: %T", name, public)
		}
	}
}

// A pair of tpm2-tools' files is a key, too; its parent is tried out.
func TestPairs20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, name := range []string{"tools-rsa", "tools-p256"} {
		file := pair20(t, name)
		if _, err := tpm.Load(t.Context(), file, nil); err != nil {
			t.Fatal(err) // whether there is a secret shows later
		}
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: tpmkey.Password(nil)})
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(k); err != nil {
			t.Error(err)
		}
	}
}

func TestUnseal20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	file := fixture20(t, "e2-sealed")
	data, err := tpm.Unseal(t.Context(), file, nil)
	if err != nil || !bytes.Equal(data, tpmtest.Fixture(t, "tpm2/sealed.txt")) {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := tpm.Load(t.Context(), file, nil); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("a sealed file used as a key: %v", err)
	}
	if _, err := tpm.Unseal(t.Context(), fixture20(t, "pv-rsa"), nil); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("a key unsealed: %v", err)
	}
}
