package tpmkey_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// bindKey makes a key of usage bind, which none of the recorded ones is.
func bindKey(t *testing.T, socket string, scheme blob.EncScheme) *blob.TPMKey {
	t.Helper()
	dev, err := transport.Open(socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	template, err := blob.NewTemplate(blob.Template{Bits: 1024, EncScheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	template.Usage, template.SigScheme = blob.KeyBind, blob.SSNone
	srk := tpm12.Secret(sha1.Sum(nil))
	made, err := tpm12.New(dev).CreateWrapKey(tpm12.SRK, &srk, template.Bytes(), new(tpm12.Secret), new(tpm12.Secret))
	if err != nil {
		t.Fatal(err)
	}
	k, err := blob.NewTPMKey(made)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A bind key decrypts a TPM_BOUND_DATA with either scheme. Any other plaintext looks to the
// caller like wrong padding.
func TestBindKeys(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for _, scheme := range []blob.EncScheme{blob.ESRSAESPKCSv15, blob.ESRSAESOAEPSHA1MGF1} {
		sw := tpmtest.Start(t, tpmtest.Tutorial)
		file := bindKey(t, sw.Socket, scheme)
		tpm := openName(t, sw.Socket)
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 7, tpmkey.MaxMessage(file)} {
			message := bytes.Repeat([]byte{7}, n)
			c, err := tpmkey.Encrypt(file, message)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.Decrypt(nil, c, nil); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%v, %d bytes: %x, %v", scheme, n, got, err)
			}
		}
		if _, err := k.Sign(nil, make([]byte, 20), nil); !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("sign: %v", err)
		}
		for _, odd := range []string{"", "abc", "\x01\x01\x00\x00\x03abc", "\x02\x01\x00\x00\x02abc", "bonjour"} {
			checkOddPlaintext(t, k, scheme, []byte(odd))
		}
	}
}

func checkOddPlaintext(t *testing.T, k *tpmkey.Key, scheme blob.EncScheme, plain []byte) {
	t.Helper()
	pub := k.Public().(*rsa.PublicKey)
	c, err := rsa.EncryptPKCS1v15(rand.Reader, pub, plain)
	if scheme == blob.ESRSAESOAEPSHA1MGF1 {
		c, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, plain, []byte("TCPA"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Decrypt(nil, c, nil); !errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("%v, %q: %q, %v", scheme, plain, got, err)
	}
	if scheme != blob.ESRSAESPKCSv15 {
		return
	}
	if got, err := k.Decrypt(nil, c, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}); err != nil || len(got) != 16 {
		t.Errorf("session key of %q: %x, %v", plain, got, err)
	}
}
